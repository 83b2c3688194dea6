"""The parts of an h5ad: frames of names and labels, and matrices, checked before they are read."""

from pathlib import Path

import anndata as ad
import h5py
import pandas as pd

from vcpipe.errors import InputError


def read_frame(file: h5py.File, path: Path, key: str) -> pd.DataFrame:
    if not isinstance(file[key], h5py.Group) or "encoding-type" not in file[key].attrs:
        raise InputError(
            f"{path}: {key} has the layout of anndata before 0.7; "
            "read the file with anndata and write it again."
        )
    try:
        _refuse_damaged_columns(file[key], path)
        return ad.io.read_elem(file[key])
    except (
        InputError,
        OSError,
        KeyError,
        MemoryError,
    ):  # reading_hdf5 names what HDF5 could not read
        raise
    except Exception as error:
        # anndata notes where it was reading.
        reason = " ".join("; ".join([str(error), *getattr(error, "__notes__", [])]).split())
        raise InputError(
            f"{path}: {key} cannot be read ({reason}); write the file again with anndata."
        ) from error


def _refuse_damaged_columns(frame: h5py.Group, path: Path) -> None:
    names = _column_shape(frame[frame.attrs["_index"]])
    for key in frame.attrs["column-order"]:
        refuse_damaged_column(frame[key], f"{path}: {frame.name[1:]} column {key!r}", names)


def refuse_damaged_column(
    column: h5py.Group | h5py.Dataset, what: str, expected: tuple[int, ...]
) -> None:
    """Refuse a column without a value for each row, or with codes that mean nothing."""
    shape = _column_shape(column)
    if shape != expected:
        raise InputError(
            f"{what} has shape {shape}; expected {expected}, that of the names of its rows. The "
            "file is damaged; write or download it again."
        )
    if column.attrs.get("encoding-type") == "categorical":
        _refuse_unknown_codes(column, what)


def _refuse_unknown_codes(column: h5py.Group, what: str) -> None:
    codes, num_categories = column["codes"][:], len(column["categories"])
    unknown = codes[(codes < -1) | (codes >= num_categories)]
    if len(unknown):
        raise InputError(
            f"{what} has code {unknown[0]}; expected -1 to {num_categories - 1}, as it has "
            f"{num_categories} categories. The file is damaged; write or download it again."
        )


def _column_shape(column: h5py.Group | h5py.Dataset) -> tuple[int, ...] | None:
    """Categorical and nullable columns are groups, with a code or a value for each row."""
    if isinstance(column, h5py.Group):
        column = column.get("codes", column.get("values"))
    return getattr(column, "shape", None)


def refuse_no_matrix(element: h5py.Group | h5py.Dataset, path: Path, setting: str) -> None:
    encoding = element.attrs.get("encoding-type")
    sparse = isinstance(element, h5py.Group)
    dtype = getattr(element.get("data") if sparse else element, "dtype", None)
    shape = matrix_shape(element)
    if sparse and encoding not in ("csr_matrix", "csc_matrix"):
        found = f"is encoded as {encoding!r}"
    elif len(shape) != 2:
        found = f"has shape {shape}" if shape else "has no shape"
    elif dtype is None or dtype.kind not in "biuf":
        found = f"has values of type {dtype}"
    else:
        return
    raise InputError(
        f"{path}: {element.name[1:]} {found}; expected numbers of cells × genes in an array, "
        "csr_matrix or csc_matrix. Write the file again with anndata, or set "
        f"{setting} to where the raw counts are."
    )


def matrix_shape(element: h5py.Group | h5py.Dataset) -> tuple[int, ...]:
    if isinstance(element, h5py.Group):
        return tuple(int(size) for size in element.attrs.get("shape", ()))
    return element.shape or ()  # a null has None


def num_entries(element: h5py.Group | h5py.Dataset) -> int | None:
    return len(element["data"]) if isinstance(element, h5py.Group) else None
