"""Raw counts in an h5ad, opened and checked; values stay on disk and are read in chunks of rows."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.data.checked_counts import ENTRIES_PER_CHUNK, Place, checked_counts
from vcpipe.data.h5ad import matrix_shape, num_entries, read_frame, refuse_no_matrix
from vcpipe.data.hdf5 import reading_hdf5
from vcpipe.data.row_readers import row_reader
from vcpipe.errors import InputError, listed


@dataclass(frozen=True)
class Counts:
    """A cells × genes matrix of raw counts on disk, with the names of its rows and columns."""

    path: Path
    element: str  # "X" or "layers/<name>"
    obs: pd.DataFrame
    var: pd.DataFrame
    genes: np.ndarray  # str
    cells: np.ndarray  # str
    num_entries: int | None  # stored values; None in a dense matrix

    def chunks(
        self, rows: np.ndarray | None = None, chunk: int | None = None
    ) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
        """Row numbers and their checked counts (float32, sorted, no zeros), in row order.

        `rows` is a mask of the cells that are wanted; `chunk` bounds the cells held at a time.
        """
        chunk = chunk or max(1, ENTRIES_PER_CHUNK // len(self.genes))
        wanted = np.ones(len(self.cells), dtype=bool) if rows is None else rows
        with _open(self.path) as file:
            matrix = row_reader(file[self.element])
            for start in range(0, len(self.cells), chunk):
                part = start + np.flatnonzero(wanted[start : start + chunk])
                if len(part):
                    block = sp.csr_matrix(matrix[start : start + chunk])
                    if len(part) < block.shape[0]:
                        block = block[part - start]
                    yield part, checked_counts(block, self._place(part))

    def _place(self, rows: np.ndarray) -> Place:
        return Place(
            f"{self.path}: {self.element}",
            cell=lambda row: self.cells[rows[row]],
            feature=lambda column: self.genes[column],
            setting="counts_layer",
        )


def open_counts(
    path: Path, name: str, gene_name_key: str | None = None, counts_layer: str | None = None
) -> Counts:
    """Open an h5ad and check its shape and names; `name` is the dataset's in the configuration."""
    with _open(path) as file:
        element = _counts_element(file, path, name, counts_layer)
        obs, var = (read_frame(file, path, key) for key in ("obs", "var"))
        refuse_no_matrix(file[element], path, f"datasets.{name}.counts_layer")
        shape, entries = matrix_shape(file[element]), num_entries(file[element])
    if shape != (len(obs), len(var)):
        raise InputError(
            f"{path}: {element} is {shape[0]} × {shape[1]}, but obs and var name {len(obs)} cells "
            f"and {len(var)} genes; the file is damaged. Write it again."
        )
    for what, count in (("cells", len(obs)), ("genes", len(var))):
        if count == 0:
            raise InputError(f"{path} has no {what}; expected raw counts of cells × genes.")
    cells = obs.index.to_numpy(dtype=str)
    genes = _gene_names(var, name, gene_name_key)
    refuse_repeated(cells, f"{path}: cell names", "Make them unique, e.g. with a batch prefix.")
    refuse_repeated(
        genes,
        f"{path}: gene names",
        f"Make them unique, or set datasets.{name}.gene_name_key to a var column that is.",
    )
    return Counts(Path(path), element, obs, var, genes, cells, entries)


def _open(path: Path) -> AbstractContextManager[h5py.File]:
    return reading_hdf5(path, "an h5ad with raw counts", "write or download it again")


def _counts_element(file: h5py.File, path: Path, name: str, layer: str | None) -> str:
    missing = [key for key in ("obs", "var") if key not in file]
    if missing or (layer is None and "X" not in file):
        missing += [] if "X" in file else ["X"]
        raise InputError(
            f"{path} is HDF5 but not an h5ad: it has no {listed(missing)}; "
            f"it holds {listed(sorted(file)) or 'nothing'}. Write it with anndata."
        )
    if layer is None:
        return "X"
    if f"layers/{layer}" not in file:
        raise InputError(
            f"Dataset {name!r} has no layer {layer!r}; its layers are "
            f"{listed(sorted(file.get('layers', []))) or 'none'}. Set datasets.{name}.counts_layer "
            "to one of them, or to null for X."
        )
    return f"layers/{layer}"


def _gene_names(var: pd.DataFrame, name: str, key: str | None) -> np.ndarray:
    names = var.index.to_series() if key is None else column(var, key, name, "var", "gene_name_key")
    missing = np.flatnonzero(is_missing(names))
    if len(missing):
        raise InputError(
            f"Dataset {name!r} has {len(missing)} genes without a name, "
            f"first {var.index[missing[0]]!r}; name them, "
            f"or set datasets.{name}.gene_name_key to a var column that is complete."
        )
    return names.to_numpy(dtype=str)


def column(frame: pd.DataFrame, key: str, name: str, where: str, setting: str) -> pd.Series:
    """One column of obs or var, or the names of those that exist and the setting that chose it."""
    if key not in frame.columns:
        raise InputError(
            f"Dataset {name!r} has no {where} column {key!r}; its columns are "
            f"{listed(frame.columns, 30) or 'none'}. Set datasets.{name}.{setting}."
        )
    return frame[key]


def is_missing(values: pd.Series) -> np.ndarray:
    """True where a label is absent; "nan" is what a missing label becomes in a text column."""
    text = values.astype(object).map(lambda value: str(value).strip())
    return (values.isna() | text.isin(["", "nan", "None", "<NA>"])).to_numpy(dtype=bool)


def refuse_repeated(names: np.ndarray, what: str, remedy: str) -> None:
    repeated = pd.unique(names[pd.Series(names).duplicated().to_numpy()])
    if len(repeated):
        raise InputError(
            f"{what} must be unique; {listed(repeated)} stand more than once. {remedy}"
        )
