"""Cell embeddings as an h5ad: the cells' own obs, obsm["X_<run>"], and no counts unless asked."""

from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.config.atlases import Atlas
from vcpipe.data.h5ad import read_frame
from vcpipe.data.sources.cells import StoredCells, open_cells
from vcpipe.data.sources.file_cells import FileCells
from vcpipe.errors import InputError, listed
from vcpipe.files import existing, writing


def obs_of(sources: Sequence[FileCells], atlas: Atlas) -> pd.DataFrame:
    """All obs columns of the files, and the labels that the atlas names, in the cells' order."""
    frames = []
    for source in sources:
        modality, matrix = next(iter(source.matrices.items()))
        index, rows = source.names(np.arange(len(source))), source.rows[modality]
        frame = pd.DataFrame(index=index)
        if isinstance(matrix.cells, StoredCells):
            with open_cells(matrix.path) as file:
                frame = read_frame(file, matrix.path, matrix.cells.frame)
            frame = (frame if rows is None else frame.iloc[rows]).set_axis(index)
        for label in source.labels.columns.difference(frame.columns, sort=False):
            # Without a key the batch is the file's name.
            if label != "batch" or atlas.batch_key:
                frame[label] = source.labels[label].to_numpy()
        frames.append(frame)
    return frames[0] if len(frames) == 1 else pd.concat(frames)


def write_embeddings(
    path: Path, values_CD: np.ndarray, obs: pd.DataFrame, run: str, about: dict, counts=None
) -> None:
    """`counts` is the AnnData of the cells, to be copied too."""
    assert len(values_CD) == len(obs)
    cells = ad.AnnData(sp.csr_matrix((len(obs), 0), dtype=np.float32), obs)
    if counts is not None:
        cells = counts
    cells.obsm[f"X_{run}"] = values_CD
    cells.uns["embedding"] = about
    with writing(path) as partial:
        cells.write_h5ad(partial)


def counts_to_copy(sources: Sequence[FileCells]) -> ad.AnnData:
    """The whole file, where all cells are those of one h5ad."""
    paths = [source.path for source in sources]
    if len(paths) > 1 or not paths[0].endswith(".h5ad"):
        raise InputError(
            f"keep_counts copies one h5ad, and the cells are in {listed(paths, 3)}; leave it out, "
            "and look cells up by name."
        )
    return ad.read_h5ad(paths[0])


def read_embeddings(path: Path) -> tuple[str, np.ndarray, pd.DataFrame]:
    """The run, its vectors of cells, and their obs."""
    cells = ad.read_h5ad(existing(path, "an h5ad of embed_cells"), backed="r")
    try:
        run = str(cells.uns.get("embedding", {}).get("run", ""))
        if f"X_{run}" not in cells.obsm:
            raise InputError(f"{path} has no embedding; expected an h5ad of embed_cells.")
        return run, np.asarray(cells.obsm[f"X_{run}"]), cells.obs.copy()
    finally:
        cells.file.close()
