"""HDF5 files that are whole or absent, also where the disk fills, and arrays that grow in them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from vcpipe.files import let_go, writing

# Entries of one chunk: 4 MiB of float32, and at a multiple of it in the file, so that the system
# writes it in one piece.
CHUNK = 2**20
# Entries after which what was written is given to the disk for good.
LET_GO = 16 * CHUNK
ALIGNED = {"alignment_threshold": 4 * CHUNK, "alignment_interval": 4 * CHUNK}


@contextmanager
def writing_hdf5(path: Path, needed: int | None = None) -> Iterator[h5py.File]:
    """Open a new file that takes the name `path` when the block ends well; see files.writing."""
    with writing(path, needed) as partial, h5py.File(partial, "w", **ALIGNED) as file:
        try:
            yield file
            file.flush()
        except Exception:
            # HDF5 writes what it holds when it closes, and crashes where it cannot. What it wrote
            # so far is of no use; without it there is room.
            os.ftruncate(file.id.get_vfd_handle(), 0)
            raise


class GrowingArray:
    """A one-dimensional array on disk that grows at its end, written a whole chunk at a time."""

    def __init__(self, group: h5py.Group, name: str, dtype: type, most_entries: int):
        chunk = min(CHUNK, most_entries)
        self.array = group.create_dataset(
            name, shape=(0,), maxshape=(None,), chunks=(chunk,), dtype=dtype
        )
        self.waiting = np.empty(chunk, dtype=dtype)
        self.num_waiting = 0

    def append(self, entries: np.ndarray) -> None:
        while len(entries):
            part = entries[: len(self.waiting) - self.num_waiting]
            self.waiting[self.num_waiting : self.num_waiting + len(part)] = part
            self.num_waiting += len(part)
            entries = entries[len(part) :]
            if self.num_waiting == len(self.waiting):
                self._write()

    def _write(self) -> None:
        start = len(self.array)
        self.array.resize((start + self.num_waiting,))
        # Past HDF5's own buffers, which copy everything once more.
        self.array.id.write_direct_chunk((start,), self.waiting)
        self.num_waiting = 0
        if len(self.array) % LET_GO == 0:
            let_go(self.array.file.id.get_vfd_handle())

    def close(self) -> None:
        if self.num_waiting:
            # The last chunk is whole on disk; what lies beyond the end is never read.
            self.waiting[self.num_waiting :] = 0
            self._write()
