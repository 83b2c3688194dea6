"""Names and labels of the cells of a file, read from disk as they are asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
import pandas as pd

from vcpipe.data.cell_keys import cell_keys
from vcpipe.data.counts import is_missing
from vcpipe.data.h5ad import refuse_damaged_column
from vcpipe.data.hdf5 import reading_hdf5
from vcpipe.errors import InputError

KINDS = "an h5ad, an h5mu, an .h5 of 10x, or a folder of 10x with matrix.mtx"
# Names that are read together; a few MB as Python strings.
NAMES_TOGETHER = 2**14


class Cells(Protocol):
    """The rows of a matrix: their names, and columns with labels where the file has any."""

    columns: Sequence[str]

    def __len__(self) -> int: ...

    def names(self, first: int, last: int) -> np.ndarray:
        """Names of consecutive cells (object array of str)."""
        ...

    def label(self, column: str) -> pd.Categorical:
        """A column of all cells; what is missing there has no category."""
        ...


@dataclass(frozen=True)
class ListedCells:
    """Cells of a matrix in text, or of 10x's HDF5: names and nothing else."""

    listed: np.ndarray
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.listed)

    def names(self, first: int, last: int) -> np.ndarray:
        return _as_strings(self.listed[first:last])


@dataclass(frozen=True)
class StoredCells:
    """Cells of an h5ad or h5mu; `frame` is where in the file their obs is."""

    path: Path
    frame: str
    num_cells: int
    columns: list[str]

    def __len__(self) -> int:
        return self.num_cells

    def names(self, first: int, last: int) -> np.ndarray:
        with open_cells(self.path) as file:
            frame = file[self.frame]
            return _read_strings(frame[frame.attrs["_index"]], slice(first, last))

    def label(self, column: str) -> pd.Categorical:
        with open_cells(self.path) as file:
            element = file[self.frame][column]
            what = f"{self.path}: {self.frame} column {column!r}"
            refuse_damaged_column(element, what, (self.num_cells,))
            return as_labels(_read_column(element))


@dataclass(frozen=True)
class SharedCells:
    """Cells of one modality of an h5mu, whose labels may stand in a frame of all modalities."""

    own: StoredCells
    shared: StoredCells
    rows: np.ndarray  # of the shared frame, for each cell; -1: none

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys([*self.own.columns, *self.shared.columns]))

    def __len__(self) -> int:
        return len(self.own)

    def names(self, first: int, last: int) -> np.ndarray:
        return self.own.names(first, last)

    def label(self, column: str) -> pd.Categorical:
        if column in self.own.columns:
            return self.own.label(column)
        return as_labels(self.shared.label(column).take(self.rows, allow_fill=True))


def open_cells(path: Path):
    return reading_hdf5(path, KINDS, "write or download it again")


def stored_cells(file: h5py.File, path: Path, frame: str) -> StoredCells:
    """The cells of a frame, such as obs, of an open file."""
    group = file[frame]
    if not isinstance(group, h5py.Group) or "_index" not in group.attrs:
        raise InputError(
            f"{path}: {frame} has the layout of anndata before 0.7; "
            "read the file with anndata and write it again."
        )
    names = group[group.attrs["_index"]]
    if isinstance(names, h5py.Group):
        names = names["codes"] if "codes" in names else names["values"]
    columns = [str(name) for name in group.attrs["column-order"]]
    return StoredCells(path, frame, len(names), columns)


def names_of(cells: Cells, rows: np.ndarray) -> np.ndarray:
    """Names of any cells, in the order of `rows`."""
    found = np.empty(len(rows), dtype=object)
    blocks = np.asarray(rows) // NAMES_TOGETHER
    for block in np.unique(blocks):
        here = np.flatnonzero(blocks == block)
        first, last = rows[here].min(), rows[here].max() + 1
        found[here] = cells.names(first, last)[rows[here] - first]
    return found


def keys_of(cells: Cells, belonging_to: str = "") -> np.ndarray:
    """uint64 hashes of all names: they tell cells apart in an eighth of the memory or less."""
    keys = np.empty(len(cells), dtype=np.uint64)
    for start in range(0, len(cells), NAMES_TOGETHER):
        names = cells.names(start, min(start + NAMES_TOGETHER, len(cells)))
        keys[start : start + len(names)] = cell_keys(belonging_to, names)
    return keys


def as_labels(values: pd.Categorical) -> pd.Categorical:
    """Categories as sorted text, those only that a cell has; missing stays missing."""
    text = np.array([_as_text(category) for category in values.categories], dtype=object)
    used = np.zeros(len(text), dtype=bool)
    used[values.codes[values.codes >= 0]] = True
    used &= ~is_missing(pd.Series(values.categories))
    categories = np.unique(text[used].astype(str)).astype(object)
    place = np.full(len(text) + 1, -1)  # the last is that of code -1
    place[:-1][used] = np.searchsorted(categories.astype(str), text[used].astype(str))
    return pd.Categorical.from_codes(place[values.codes], categories)


def _as_text(value) -> str:
    """A label; 1 where pandas made it 1.0 because other cells have none."""
    is_whole = isinstance(value, float | np.floating) and value.is_integer()
    return str(int(value) if is_whole else value)


def constant(label: str, num_cells: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.zeros(num_cells, dtype=np.int8), [label])


def _read_column(element: h5py.Group | h5py.Dataset) -> pd.Categorical:
    if isinstance(element, h5py.Group) and "codes" in element:
        categories = _read_values(element["categories"], slice(None))
        if len(pd.unique(categories)) < len(categories):
            raise InputError(
                f"{element.file.filename}: {element.name[1:]} repeats a category; "
                "write the file again."
            )
        return pd.Categorical.from_codes(element["codes"][:], pd.Index(categories, dtype=object))
    codes, categories = [], {}
    for part in _parts(element):
        its_codes, its_values = pd.factorize(part)
        ids = [categories.setdefault(value, len(categories)) for value in its_values.tolist()]
        codes.append(np.append(ids, -1).astype(np.int32)[its_codes])
    all_codes = np.concatenate(codes) if codes else np.empty(0, dtype=np.int32)
    return pd.Categorical.from_codes(all_codes, pd.Index(list(categories), dtype=object))


def _parts(element: h5py.Group | h5py.Dataset) -> Iterator[np.ndarray]:
    """The values of a column, some at a time; those of a nullable one that are missing are None."""
    nullable = isinstance(element, h5py.Group)
    values = element["values"] if nullable else element
    for start in range(0, len(values), NAMES_TOGETHER):
        rows = slice(start, start + NAMES_TOGETHER)
        part = _read_values(values, rows)
        if nullable:
            part = part.astype(object)
            part[element["mask"][rows].astype(bool)] = None
        yield part


def _read_values(dataset: h5py.Group | h5py.Dataset, rows: slice) -> np.ndarray:
    if isinstance(dataset, h5py.Group) or h5py.check_string_dtype(dataset.dtype):
        return _read_strings(dataset, rows)
    return dataset[rows]


def _read_strings(element: h5py.Group | h5py.Dataset, rows: slice) -> np.ndarray:
    if isinstance(element, h5py.Group) and "codes" in element:
        return _read_strings(element["categories"], slice(None))[element["codes"][rows]]
    if isinstance(element, h5py.Group):
        element = element["values"]
    if h5py.check_string_dtype(element.dtype):
        # Letters of another code page must not stop a run; they only have to stay as they are.
        return element.asstr(errors="backslashreplace")[rows].astype(object)
    return _as_strings(element[rows])


def _as_strings(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        values = np.strings.decode(values, "utf-8", "backslashreplace")
    if values.dtype.kind != "O":
        values = values.astype(str)
    return values.astype(object)
