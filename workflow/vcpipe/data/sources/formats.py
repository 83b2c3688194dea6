"""Which kind of file it is decides what it holds, not how its name ends."""

from pathlib import Path

from vcpipe.data.sources.anndata_files import open_anndata
from vcpipe.data.sources.cells import KINDS, open_cells
from vcpipe.data.sources.matrix import CellMatrix, Wanted
from vcpipe.data.sources.tenx import files_of, matrix_group, open_tenx_folder, open_tenx_h5
from vcpipe.errors import InputError
from vcpipe.files import digest, existing, fingerprint


def open_matrix(path: Path, wanted: Wanted) -> CellMatrix:
    """The counts of one modality in a file of any kind."""
    path = existing(path, KINDS)
    if path.is_dir():
        if path.suffix == ".zarr" or any(
            (path / name).exists() for name in (".zgroup", "zarr.json")
        ):
            raise InputError(f"{path} is a zarr store; expected {KINDS}. Write it as h5ad.")
        return open_tenx_folder(path, wanted)
    with open_cells(path) as file:
        element = matrix_group(file, path)
        if element is not None:
            return open_tenx_h5(file, path, wanted, element)
        return open_anndata(file, path, wanted)


def files_digest(path: Path) -> str:
    """A hash of the size and of parts of a file, or of the files of a folder that are read."""
    if path.is_dir():
        return digest([fingerprint(part) for part in files_of(path)])
    return fingerprint(path)
