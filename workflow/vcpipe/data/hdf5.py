"""HDF5 files that are whole or absent, also where the disk fills while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from vcpipe.files import writing


@contextmanager
def writing_hdf5(path: Path, needed: int | None = None, **options) -> Iterator[h5py.File]:
    """Open a new file that takes the name `path` when the block ends well; see files.writing."""
    with writing(path, needed) as partial, h5py.File(partial, "w", **options) as file:
        try:
            yield file
            file.flush()
        except Exception:
            # HDF5 writes what it holds when it closes, and crashes where it cannot. What it wrote
            # so far is of no use; without it there is room.
            os.ftruncate(file.id.get_vfd_handle(), 0)
            raise
