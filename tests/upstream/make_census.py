"""Write an h5ad as a census of its own, laid out as the public one: make_census.py h5ad folder."""

import sys

import anndata as ad
import pyarrow as pa
import tiledbsoma
import tiledbsoma.io


def main(h5ad: str, folder: str) -> None:
    inside = f"{folder}/census_data/homo_sapiens"
    summary = pa.table(
        {
            "soma_joinid": pa.array([0, 1], pa.int64()),
            "label": ["census_build_date", "census_schema_version"],
            "value": ["2025-01-30", "2.1.0"],
        }
    )
    with tiledbsoma.Collection.create(folder) as census:
        info = census.add_new_collection("census_info")
        info.add_new_dataframe("summary", schema=summary.schema, domain=[(0, 1)]).write(summary)
        data = census.add_new_collection("census_data")
        tiledbsoma.io.from_anndata(
            inside, ad.read_h5ad(h5ad), "RNA", X_layer_name="raw", var_id_name="feature_id"
        )
        with tiledbsoma.open(inside) as experiment:
            data.set("homo_sapiens", experiment, use_relative_uri=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
