"""Cells of h5ad files, one file after the other, fetched through scDataset."""

import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from vcpipe.data.cell_store.cells import NOTHING, Cells
from vcpipe.data.checked_counts import Place
from vcpipe.data.h5ad import matrix_shape, refuse_no_matrix
from vcpipe.data.hdf5 import reading_hdf5
from vcpipe.data.loading.fetched_cells import (
    FetchedCells,
    cells_of_matrix,
    fetched_cells,
    file_numbers,
    joined,
    label_codes,
    range_of,
    read_column,
    read_names,
    refuse_other_genes,
)
from vcpipe.data.loading.reader import LabelCodes
from vcpipe.data.row_readers import row_reader, take
from vcpipe.errors import InputError, listed

# Stored values that are read at a time: 32 MB of values and of columns.
MOST_ENTRIES = 2**22


class H5adReader:
    """Counts of `layer` (X, or the name of a layer); positions go on from file to file.

    A cell's key is made of its file's name and its row, so it does not depend on the range.
    """

    block_size = 1

    def __init__(
        self, files: Sequence[Path], layer: str = "X", first: int = 0, stop: int | None = None
    ):
        # Torch, which scDataset brings, takes seconds: here rather than in the first fetch.
        from vcpipe.data.loading import scdataset_fetching  # noqa: F401

        self.files, self.layer = [Path(path) for path in files], layer
        if not self.files:
            raise InputError("There is no h5ad file to read cells from; name at least one.")
        sizes = []
        for path in self.files:
            with _reading(path) as file:
                genes, num_cells = _checked(file, path, _element(layer))
            if not sizes:
                self.genes = genes
            refuse_other_genes(genes, str(path), self.genes, str(self.files[0]))
            sizes.append(num_cells)
        self.offsets = np.append(0, np.cumsum(sizes, dtype=np.int64))
        what = str(self.files[0]) if len(sizes) == 1 else f"{len(sizes)} h5ad files together"
        self.first, self.stop = range_of(int(self.offsets[-1]), first, stop, what)
        self.numbers = file_numbers(path.name for path in self.files)
        self._opened: dict[int, _OpenFiles] = {}

    def __reduce__(self):
        return H5adReader, (self.files, self.layer, self.first, self.stop)

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def num_genes(self) -> int:
        return len(self.genes)

    @property
    def bytes(self) -> int:
        """What the files take on disk."""
        return sum(path.stat().st_size for path in self.files)

    def read(self, positions: np.ndarray) -> FetchedCells:
        from vcpipe.data.loading.scdataset_fetching import fetch

        positions = np.asarray(positions, dtype=np.int64)
        if not len(positions):
            return FetchedCells(positions, NOTHING, positions)
        assert positions.min() >= 0
        assert positions.max() < len(self)
        distinct, cells = fetch(self, positions, H5adReader._fetched)
        return fetched_cells(positions, distinct, cells)

    def _fetched(self, positions: np.ndarray) -> tuple[np.ndarray, Cells]:
        distinct = np.unique(positions)
        rows = distinct + self.first
        limits = np.searchsorted(rows, self.offsets)
        parts = [
            self._cells(number, rows[begin:end] - self.offsets[number])
            for number, (begin, end) in enumerate(pairwise(limits.tolist()))
            if end > begin
        ]
        return distinct, joined(parts)

    def _cells(self, number: int, rows: np.ndarray) -> Cells:
        path, element = self.files[number], _element(self.layer)
        matrix = self._open_files().take(number, rows)
        place = Place(
            f"{path}: {element}",
            cell=lambda row: _cell_name(path, int(rows[row])),
            feature=lambda column: self.genes[column],
            setting="the layer that is read",
        )
        return cells_of_matrix(matrix, place, self.numbers[number], rows)

    def _open_files(self) -> "_OpenFiles":
        """HDF5 must not be used with what another process, this one's parent, has opened."""
        opened = self._opened.get(os.getpid())
        if opened is None:
            opened = _OpenFiles(self.files, _element(self.layer))
            self._opened = {os.getpid(): opened}
        return opened

    def label_codes(self, columns: Sequence[str]) -> LabelCodes:
        parts_of_columns = [[] for _ in columns]
        for path, (begin, end) in zip(self.files, pairwise(self.offsets.tolist()), strict=True):
            its = slice(max(self.first - begin, 0), max(self.stop - begin, 0))
            with _reading(path) as file:
                for parts, column in zip(parts_of_columns, columns, strict=True):
                    values = read_column(file["obs"], column, end - begin, path)
                    parts.append(values.iloc[its])
        return label_codes(parts_of_columns)


class _OpenFiles:
    """The files as one process has opened them; their matrices are read by one thread at a time."""

    def __init__(self, files: Sequence[Path], element: str):
        self.files, self.lock = files, threading.Lock()
        with ExitStack() as stack:
            opened = [stack.enter_context(_reading(path)) for path in files]
            self.matrices = [row_reader(file[element]) for file in opened]
            # Closed when this is forgotten.
            self.open = stack.pop_all()

    def take(self, number: int, rows: np.ndarray):
        try:
            with self.lock:
                return take(self.matrices[number], rows, MOST_ENTRIES)
        except OSError as error:
            if error.errno is not None:
                raise
            raise InputError(
                f"{self.files[number]} is damaged ({error}); write or download it again."
            ) from error


def _reading(path: Path) -> AbstractContextManager[h5py.File]:
    return reading_hdf5(path, "an h5ad with raw counts", "write or download it again")


def _element(layer: str) -> str:
    return layer if layer == "X" or layer.startswith("layers/") else f"layers/{layer}"


def _checked(file: h5py.File, path: Path, element: str) -> tuple[np.ndarray, int]:
    """Names of the genes and the number of cells of a file that can be read by rows."""
    missing = [key for key in ("obs", "var") if key not in file]
    if missing:
        raise InputError(
            f"{path} is HDF5 but not an h5ad: it has no {listed(missing)}. Write it with anndata."
        )
    if element not in file:
        layers = listed(sorted(file.get("layers", []))) or "none"
        raise InputError(
            f"{path} has no {element}; its layers are {layers}. Read one of them, or X."
        )
    refuse_no_matrix(file[element], path, "the layer that is read")
    if file[element].attrs.get("encoding-type") == "csc_matrix":
        raise InputError(
            f"{path}: {element} is stored by gene (csc_matrix), so cells cannot be read from it. "
            "Write the file again with X.tocsr()."
        )
    genes = read_names(_index(file, path, "var"))
    num_cells = len(_values(_index(file, path, "obs")))
    shape, expected = matrix_shape(file[element]), (num_cells, len(genes))
    if shape != expected:
        raise InputError(
            f"{path}: {element} is {shape[0]} × {shape[1]}, but obs and var name {expected[0]} "
            f"cells and {expected[1]} genes; the file is damaged. Write it again."
        )
    return genes, shape[0]


def _index(file: h5py.File, path: Path, key: str) -> h5py.Group | h5py.Dataset:
    if not isinstance(file[key], h5py.Group) or "encoding-type" not in file[key].attrs:
        raise InputError(
            f"{path}: {key} has the layout of anndata before 0.7; "
            "read the file with anndata and write it again."
        )
    return file[key][file[key].attrs["_index"]]


def _values(names: h5py.Group | h5py.Dataset) -> h5py.Dataset:
    """Names are an array, or a group of them and of a mask where they are nullable."""
    return names["values"] if isinstance(names, h5py.Group) else names


def _cell_name(path: Path, row: int) -> str:
    with _reading(path) as file:
        return _values(_index(file, path, "obs")).asstr()[row]
