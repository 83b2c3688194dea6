"""HDF5 files that are whole or absent, also where the disk fills, and arrays that grow in them.

A damaged file that is read ends in an InputError.
"""

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from vcpipe.errors import InputError
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


@contextmanager
def reading_hdf5(path: Path, what: str, remedy: str) -> Iterator[h5py.File]:
    """Open what should be an h5ad; where it is none or damaged, say what to do (`remedy`)."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected {what}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected an h5ad file (zarr stores are not read).")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path} is empty (0 bytes); {remedy}.")
    if not h5py.is_hdf5(path):
        raise InputError(f"{path} ({size} bytes) is not an h5ad (not HDF5); expected {what}.")
    try:
        file = h5py.File(path)
    except OSError as error:
        raise InputError(f"{path} {_unreadable(size, error)}; {remedy}.") from error
    with file:
        try:
            yield file
        except (OSError, KeyError) as error:
            # A damaged block is noticed only when it is read, damaged names as KeyError "Unable to
            # ...". The system's own errors (a disk that went away) carry an errno.
            of_hdf5 = isinstance(error, OSError) or "Unable to" in str(error)
            if not of_hdf5 or getattr(error, "errno", None) is not None:
                raise
            raise InputError(f"{path} ({size} bytes) is damaged ({error}); {remedy}.") from error


def _unreadable(size: int, error: OSError) -> str:
    # HDF5: "truncated file: eof = 4096, sblock->base_addr = 0, stored_eof = 8192".
    expected = re.search(r"truncated file.*stored_eof = (\d+)", str(error))
    if expected:
        return f"is truncated: it has {size} bytes and should have {expected[1]}"
    return f"({size} bytes) is unreadable ({error})"


class GrowingArray:
    """A one-dimensional array on disk that grows at its end, written a whole chunk at a time."""

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        dtype: type,
        most_entries: int,
        *,
        compressed: bool = False,
    ):
        chunk = min(CHUNK, most_entries)
        filters = {"shuffle": True, "compression": "gzip", "compression_opts": 1}
        self.is_compressed = compressed
        self.array = group.create_dataset(
            name,
            shape=(0,),
            maxshape=(None,),
            chunks=(chunk,),
            dtype=dtype,
            **(filters if compressed else {}),
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
        content = gzipped(self.waiting) if self.is_compressed else self.waiting
        self.array.id.write_direct_chunk((start,), content)
        self.num_waiting = 0
        if len(self.array) % LET_GO == 0:
            let_go(self.array.file.id.get_vfd_handle())

    def close(self) -> None:
        if self.num_waiting:
            # The last chunk is whole on disk; what lies beyond the end is never read.
            self.waiting[self.num_waiting :] = 0
            self._write()


def gzipped(entries: np.ndarray) -> bytes:
    """A chunk as HDF5's filters shuffle and gzip, level 1, would write it."""
    first_bytes_first = entries.view(np.uint8).reshape(len(entries), -1).T
    return zlib.compress(first_bytes_first.tobytes(), 1)
