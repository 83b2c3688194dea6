"""A local LaminDB instance with an h5ad in versions: make_lamindb.py folder one.h5ad two.h5ad."""

import json
import sys

import anndata as ad
import lamindb as ln


def main(folder: str, *versions: str) -> None:
    ln.setup.init(storage=folder)
    uids = []
    for path in versions:
        # Of a path outside the instance lamindb asks the hub.
        artifact = ln.Artifact.from_anndata(ad.read_h5ad(path), key="atlas/heart.h5ad").save()
        uids.append(artifact.uid)
    ln.Artifact.from_dataframe(ad.read_h5ad(path).obs, key="labels.parquet").save()
    with open(f"{folder}/uids.json", "w") as file:  # noqa: PTH123
        json.dump(uids, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
