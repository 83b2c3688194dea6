"""h5ad and h5mu (MuData: one h5ad per modality in one file), in X, a layer or raw."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from vcpipe.data.h5ad import matrix_shape, read_frame, refuse_no_matrix
from vcpipe.data.row_readers import Rows, row_reader
from vcpipe.data.sources.cells import SharedCells, StoredCells, open_cells, stored_cells
from vcpipe.data.sources.features import wanted_features
from vcpipe.data.sources.matrix import CellMatrix, Wanted
from vcpipe.errors import InputError, listed


def open_anndata(file: h5py.File, path: Path, wanted: Wanted) -> CellMatrix:
    """The matrix of a modality in an open h5ad or h5mu."""
    prefix = _modality(file, path, wanted) if "mod" in file else ""
    element, var_frame = _element(file, path, wanted, prefix)
    refuse_no_matrix(file[element], path, f"{wanted.setting}.layer")
    cells = _cells(file, path, prefix)
    var = read_frame(file, path, var_frame)
    shape = matrix_shape(file[element])
    if shape != (len(cells), len(var)):
        raise InputError(
            f"{path}: {element} is {shape[0]} × {shape[1]}, but {prefix}obs and {var_frame} name "
            f"{len(cells)} cells and {len(var)} {wanted.what}s; the file is damaged. Write it "
            "again."
        )
    if wanted.name_key is None:
        names = var.index.to_series()
    elif wanted.name_key in var:
        names = var[wanted.name_key]
    else:
        raise InputError(
            f"{path} has no var column {wanted.name_key!r}; its columns are "
            f"{listed(var.columns, 30) or 'none'}. Set {wanted.setting}.name_key to one of them, "
            "or to null for the index."
        )
    features, place = wanted_features(path, var, names, wanted)

    @contextmanager
    def opened() -> Iterator[Rows]:
        with open_cells(path) as file:
            yield row_reader(file[element])

    return CellMatrix(path, element, wanted, cells, features, place, opened, features.names)


def _modality(file: h5py.File, path: Path, wanted: Wanted) -> str:
    if wanted.modality not in file["mod"]:
        raise InputError(
            f"{path} has no modality {wanted.modality!r}; it holds "
            f"{listed(sorted(file['mod'])) or 'none'}. Take it out of {wanted.setting}.paths, or "
            f"write the file with a modality called {wanted.modality}."
        )
    return f"mod/{wanted.modality}/"


def _element(file: h5py.File, path: Path, wanted: Wanted, prefix: str) -> tuple[str, str]:
    """Where the counts are, and the frame that names their columns."""
    at = file[prefix] if prefix else file
    missing = [key for key in ("obs", "var") if key not in at]
    if missing:
        raise InputError(
            f"{path} is HDF5 but not an h5ad: it has no {listed(prefix + key for key in missing)}; "
            f"it holds {listed(sorted(at)) or 'nothing'}. Write it with anndata."
        )
    layers = sorted(at.get("layers", []))
    choices = [key for key in ("X",) if key in at]
    choices += ["raw"] if "raw/X" in at and "raw/var" in at else []
    choices += layers
    if wanted.layer not in choices:
        raise InputError(
            f"{path} has no {prefix}{wanted.layer}; its matrices are {listed(choices) or 'none'}. "
            f"Set {wanted.setting}.layer to the one with raw counts."
        )
    if wanted.layer == "X":
        return f"{prefix}X", f"{prefix}var"
    if wanted.layer == "raw":
        return f"{prefix}raw/X", f"{prefix}raw/var"
    return f"{prefix}layers/{wanted.layer}", f"{prefix}var"


def _cells(file: h5py.File, path: Path, prefix: str) -> StoredCells | SharedCells:
    cells = stored_cells(file, path, f"{prefix}obs")
    if not len(cells):
        raise InputError(f"{path} has no cells; expected raw counts of cells.")
    modality = prefix.removeprefix("mod/").removesuffix("/")
    if not prefix or "obs" not in file or f"obsmap/{modality}" not in file:
        return cells
    # MuData: of each cell of all modalities its row here, counted from 1; 0: it has none.
    row_here = file[f"obsmap/{modality}"][:].astype(np.int64).ravel() - 1
    shared_rows = np.full(len(cells), -1)
    has = np.flatnonzero((row_here >= 0) & (row_here < len(cells)))
    shared_rows[row_here[has]] = has
    return SharedCells(cells, stored_cells(file, path, "obs"), shared_rows)
