"""Rows of a matrix on disk, whatever its layout: one slice, or any rows that ascend."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import h5py
import numpy as np
import scipy.sparse as sp

from vcpipe.data.csr_file import CsrFile, computable, read_csc
from vcpipe.errors import InputError

# Stored values between two wanted rows that are rather read than skipped: a block of most files.
GAP = 2**16
# Values of a dense band that are held: 64 MB of float32.
LARGEST_BAND = 2**24
# Rows of a chunk where they hold nothing, or next to nothing.
MOST_ROWS = 2**16


class DenseFile:
    """A dense matrix on disk; its compressed blocks are read once for all rows that they hold."""

    def __init__(self, array: h5py.Dataset):
        self.array, self.shape = computable(array), array.shape
        band = array.chunks[0] if array.chunks else 0
        self.band = band if band * self.shape[1] <= LARGEST_BAND else 0
        self.held: tuple[int, sp.csr_matrix] | None = None
        self.starts = np.arange(self.shape[0] + 1) * self.shape[1]

    def __getitem__(self, rows: slice) -> sp.csr_matrix:
        first, last, _ = rows.indices(self.shape[0])
        if not self.band or last - first >= self.band:
            return sp.csr_matrix(self.array[first:last])
        bands = range(first // self.band, max(last - 1, first) // self.band + 1)
        parts = []
        for number in bands:
            start = number * self.band
            parts.append(self._in_band(number)[max(first - start, 0) : last - start])
        return sp.vstack(parts, format="csr")

    def _in_band(self, number: int) -> sp.csr_matrix:
        if self.held is None or self.held[0] != number:
            start = number * self.band
            self.held = number, sp.csr_matrix(self.array[start : start + self.band])
        return self.held[1]


class MemoryRows:
    """A matrix that had to be read whole, as it has no rows on disk."""

    def __init__(self, matrix: sp.csr_matrix):
        self.matrix, self.shape, self.starts = matrix, matrix.shape, matrix.indptr

    def __getitem__(self, rows: slice) -> sp.csr_matrix:
        return self.matrix[rows]


class CopiedRows:
    """Rows of another reader in two plain files, where each row is one cheap read."""

    def __init__(self, reader: CsrFile | DenseFile, files: tuple[BinaryIO, BinaryIO], most: int):
        self.shape, self.files, self.dtype = reader.shape, files, np.dtype(np.float32)
        sizes = [np.zeros(1, dtype=np.int64)]
        for first, last in spans(reader.starts[1:], most):
            block = reader[first:last]
            self.dtype = block.dtype
            sizes.append(np.diff(block.indptr))
            for file, values in zip(files, (block.data, block.indices), strict=True):
                _write(file, values if values is block.data else values.astype(np.int32))
        self.starts = np.cumsum(np.concatenate(sizes), dtype=np.int64)

    def __getitem__(self, rows: np.ndarray) -> sp.csr_matrix:
        first, last = self.starts[rows], self.starts[rows + 1]
        ends = np.append(0, np.cumsum(last - first))
        arrays = np.empty(ends[-1], self.dtype), np.empty(ends[-1], np.int32)
        for file, array in zip(self.files, arrays, strict=True):
            size = array.itemsize
            for start, place, stop in zip(first, ends[:-1], ends[1:], strict=True):
                if stop > place:
                    os.preadv(file.fileno(), [array[place:stop]], start * size)
        return sp.csr_matrix((*arrays, ends), (len(rows), self.shape[1]))


@contextmanager
def copied_rows(reader: CsrFile | DenseFile, most: int) -> Iterator[CopiedRows]:
    """Copy rows to temporary files, `most` values at a time."""
    with (
        tempfile.TemporaryFile(buffering=0) as data,
        tempfile.TemporaryFile(buffering=0) as indices,
    ):
        yield CopiedRows(reader, (data, indices), most)


def _write(file: BinaryIO, values: np.ndarray) -> None:
    rest = memoryview(values).cast("B") if len(values) else b""
    try:
        while len(rest):
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise InputError(
            "Cells of two files are in different orders, and a copy of one of them does not fit "
            f"into {tempfile.gettempdir()} ({error}). Make room, set TMPDIR to a larger disk, or "
            "write both files in one order."
        ) from error


Rows = CsrFile | DenseFile | MemoryRows | CopiedRows


def row_reader(element: h5py.Group | h5py.Dataset) -> Rows:
    """Something that gives rows for a slice; CSC has no rows on disk and is read whole."""
    if isinstance(element, h5py.Dataset):
        return DenseFile(element)
    if element.attrs["encoding-type"] == "csr_matrix":
        return CsrFile(element)
    return MemoryRows(read_csc(element))


def take(reader: Rows, rows: np.ndarray, most: int) -> sp.csr_matrix:
    """Some rows, in ascending order; `most` bounds the values that are read at a time.

    What lies between two wanted rows is read too where it is short.
    """
    if not len(rows):
        return sp.csr_matrix((0, reader.shape[1]), dtype=np.float32)
    if isinstance(reader, CopiedRows):
        return reader[rows]
    parts, starts = [], reader.starts
    gaps = starts[rows[1:]] - starts[rows[:-1] + 1]
    for near in np.split(rows, np.flatnonzero(gaps > GAP) + 1):
        for start, stop in spans(starts[near + 1] - starts[near[0]], most):
            part = near[start:stop]
            block = reader[part[0] : part[-1] + 1]
            parts.append(block if len(part) == block.shape[0] else block[part - part[0]])
    return parts[0] if len(parts) == 1 else sp.vstack(parts, format="csr")


def spans(ends: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Consecutive parts of rows with at most so many values each, or a single row.

    `ends` counts the values up to the end of each row: [2, 4, 9, 10] in threes gives (0, 1),
    (1, 2), (2, 3), (3, 4).
    """
    parts, start, done = [], 0, 0
    while start < len(ends):
        stop = int(np.searchsorted(ends, done + most, side="right"))
        stop = min(max(stop, start + 1), start + MOST_ROWS)
        parts.append((start, stop))
        start, done = stop, ends[stop - 1]
    return parts
