"""Rows of a CSR matrix inside an h5ad, read straight from its three arrays.

anndata's own reader makes and checks several matrices on the way, which takes longer than reading,
and for single rows ten times as long.
"""

import os
import weakref
from pathlib import Path

import h5py
import numpy as np
import scipy.sparse as sp

from vcpipe.errors import InputError


class CsrFile:
    """An open group of data, indices and indptr; row starts are held, the rest is read."""

    def __init__(self, group: h5py.Group, shape: tuple[int, int] | None = None):
        self.shape = shape or tuple(int(size) for size in group.attrs["shape"])
        self.starts = _starts(group, "CSR", self.shape[0], self.shape)
        self.data, self.indices = computable(group["data"]), group["indices"]

    def __getitem__(self, rows: slice) -> sp.csr_matrix:
        """Consecutive rows."""
        first, last, _ = rows.indices(self.shape[0])
        entries = slice(self.starts[first], self.starts[last])
        # One chunk's entries can be counted by int32, whatever the file's can.
        starts = self.starts[first : last + 1] - self.starts[first]
        return sp.csr_matrix(
            (self.data[entries], self.indices[entries], starts.astype(np.int32)),
            shape=(last - first, self.shape[1]),
        )


def read_csc(group: h5py.Group) -> sp.csr_matrix:
    """All rows of a CSC matrix, which has none on disk."""
    num_rows, num_columns = shape = tuple(int(size) for size in group.attrs["shape"])
    starts = _starts(group, "CSC", num_columns, shape)
    data, indices = computable(group["data"])[:], group["indices"][:]
    # scipy writes wherever an index points.
    if len(indices) and not 0 <= indices.min() <= indices.max() < num_rows:
        raise InputError(
            f"{group.file.filename}: {group.name[1:]} has row indices from {indices.min()} to "
            f"{indices.max()}; expected 0 to {num_rows - 1}, its cells. The file is damaged; write "
            "or download it again."
        )
    return sp.csc_matrix((data, indices, starts), (num_rows, num_columns)).tocsr()


def computable(values: h5py.Dataset):
    """The same numbers in a type that scipy computes with: all but float16."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _starts(group: h5py.Group, layout: str, num_lines: int, shape: tuple[int, int]) -> np.ndarray:
    """Where each row of a CSR matrix, or column of a CSC matrix, begins, and the last ends."""
    starts = group["indptr"][:].astype(np.int64, copy=False)
    num_indices, num_entries = len(group["indices"]), len(group["data"])
    ends = starts[[0, -1]].tolist() if len(starts) else []
    if (
        len(starts) != num_lines + 1
        or num_indices != num_entries
        or ends != [0, num_entries]
        or (np.diff(starts) < 0).any()
    ):
        size = " × ".join(map(str, shape))
        raise InputError(
            f"{group.file.filename}: {group.name[1:]} is no {layout} matrix of {size}: its "
            f"indptr, {len(starts)} numbers, goes from {' to '.join(map(str, ends)) or 'nothing'}, "
            f"beside {num_indices} indices and {num_entries} values. The file is damaged; write "
            "or download it again."
        )
    return starts


class StoredRows:
    """Any rows, in any order, of a matrix that this project has written; holds row starts only."""

    def __init__(self, path: Path, name: str):
        with h5py.File(path) as file:
            group = file[name]
            self.starts = CsrFile(group).starts
            self.shape = tuple(int(size) for size in group.attrs["shape"])
            self.data, self.indices = (_Stored(path, group[key]) for key in ("data", "indices"))

    def __reduce__(self):
        raise TypeError(f"{self.data.path} is open in this process only; open it in each.")

    def __getitem__(self, rows: np.ndarray | slice) -> sp.csr_matrix:
        if isinstance(rows, slice):
            rows = np.arange(self.shape[0])[rows]
        first, last = self.starts[rows], self.starts[rows + 1]
        ends = np.cumsum(last - first)
        total = int(ends[-1]) if len(rows) else 0
        data, indices = (np.empty(total, array.dtype) for array in (self.data, self.indices))
        for begin, end in _runs(first, last):
            place = slice(ends[begin] - (last[begin] - first[begin]), ends[end - 1])
            self.data.read_into(data[place], first[begin])
            self.indices.read_into(indices[place], first[begin])
        return sp.csr_matrix((data, indices, np.append(0, ends)), (len(rows), self.shape[1]))


def _runs(first: np.ndarray, last: np.ndarray) -> list[tuple[int, int]]:
    """Parts of a list of rows that follow each other on disk, so that each is one read."""
    breaks = np.flatnonzero(first[1:] != last[:-1]) + 1
    ends = [*breaks.tolist(), len(first)]
    return [(begin, end) for begin, end in zip([0, *ends], ends, strict=False) if end > begin]


class _Stored:
    """A one-dimensional array of an HDF5 file, read at the places where its chunks lie."""

    def __init__(self, path: Path, dataset: h5py.Dataset):
        if dataset.chunks is None or dataset.id.get_create_plist().get_nfilters():
            raise InputError(
                f"{path}: {dataset.name[1:]} was written anew by another program (compressed, "
                "shuffled, or in one piece); rerun convert_to_gears."
            )
        self.path, self.dtype = path, dataset.dtype
        (self.chunk,) = dataset.chunks
        self.offsets = np.zeros(-(-len(dataset) // self.chunk), dtype=np.int64)

        def note(chunk) -> None:
            self.offsets[chunk.chunk_offset[0] // self.chunk] = chunk.byte_offset

        dataset.id.chunk_iter(note)
        self.handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.handle)

    def read_into(self, out: np.ndarray, start: int) -> None:
        """Fill `out` with the entries from `start` on."""
        while len(out):
            chunk, within = divmod(int(start), self.chunk)
            part = out[: self.chunk - within]
            offset = int(self.offsets[chunk]) + within * self.dtype.itemsize
            if os.preadv(self.handle, [part], offset) != part.nbytes:
                raise InputError(f"{self.path} is truncated; rerun convert_to_gears.")
            out, start = out[len(part) :], start + len(part)
