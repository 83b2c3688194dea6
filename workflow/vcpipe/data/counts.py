"""Raw counts in an h5ad, opened and checked; values stay on disk and are read in chunks of rows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.data.csr_file import CsrFile, computable, read_csc
from vcpipe.data.sparse_rows import NO_COUNT, OUTSIDE, UNORDERED, inspect
from vcpipe.errors import InputError, listed

# Float32 holds every integer up to here; UMI counts of one gene in one cell stay far below.
LARGEST_COUNT = 2**24
ENTRIES_PER_CHUNK = 2**21


@dataclass(frozen=True)
class Counts:
    """A cells × genes matrix of raw counts on disk, with the names of its rows and columns."""

    path: Path
    element: str  # "X" or "layers/<name>"
    obs: pd.DataFrame
    var: pd.DataFrame
    genes: np.ndarray  # str
    cells: np.ndarray  # str
    num_entries: int | None  # stored values; None in a dense matrix

    def chunks(
        self, rows: np.ndarray | None = None, chunk: int | None = None
    ) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
        """Row numbers and their checked counts (float32, sorted, no zeros), in row order.

        `rows` is a mask of the cells that are wanted; `chunk` bounds the cells held at a time.
        """
        chunk = chunk or max(1, ENTRIES_PER_CHUNK // len(self.genes))
        wanted = np.ones(len(self.cells), dtype=bool) if rows is None else rows
        with _open(self.path) as file:
            matrix = _row_reader(file[self.element])
            for start in range(0, len(self.cells), chunk):
                part = start + np.flatnonzero(wanted[start : start + chunk])
                if len(part):
                    block = sp.csr_matrix(matrix[start : start + chunk])
                    if len(part) < block.shape[0]:
                        block = block[part - start]
                    yield part, self._checked(block, part)

    def _checked(self, block: sp.csr_matrix, rows: np.ndarray) -> sp.csr_matrix:
        if block.dtype not in (np.float32, np.float64):
            block = block.astype(np.float64)
        finding = self._inspected(block)
        if finding == UNORDERED:
            block.sum_duplicates()
            block.eliminate_zeros()
            finding = self._inspected(block)
        if finding == OUTSIDE:
            raise InputError(
                f"{self.path}: {self.element} has column indices outside its {len(self.genes)} "
                "genes; the file is damaged. Write or download it again."
            )
        if finding == NO_COUNT:
            self._refuse(block, rows, np.flatnonzero(~_is_count(block.data))[0])
        return block.astype(np.float32, copy=False)

    def _inspected(self, block: sp.csr_matrix) -> int:
        return inspect(block.indptr, block.indices, block.data, len(self.genes), LARGEST_COUNT)

    def _refuse(self, block: sp.csr_matrix, rows: np.ndarray, entry: int) -> None:
        row = np.searchsorted(block.indptr, entry, side="right") - 1
        raise InputError(
            f"{self.path}: {self.element} is {block.data[entry]} in cell "
            f"'{self.cells[rows[row]]}', gene '{self.genes[block.indices[entry]]}'; "
            f"expected raw counts. {_advice(block.data, block.data[entry])}"
        )


def _is_count(values: np.ndarray) -> np.ndarray:
    # A comparison with NaN is False, so NaN is no count.
    with np.errstate(invalid="ignore"):
        return (values >= 0) & (values <= LARGEST_COUNT) & (values == np.rint(values))


def _advice(values: np.ndarray, value: float) -> str:
    if np.isnan(value):
        return "Remove the cell or the gene, or write the file again from counts."
    if value < 0:
        return "Negative values come from scaling; set counts_layer to the layer with raw counts."
    if value > LARGEST_COUNT:
        return f"Counts above {LARGEST_COUNT} are no UMI counts; remove the cell or the gene."
    # log1p of 1e6 counts per cell stays below 14.
    if values[np.isfinite(values)].max() < 15:
        return (
            "The values look log-normalised; set counts_layer to the layer with raw counts, "
            "or give the file from before normalisation."
        )
    return "The values look normalised or corrected; set counts_layer to the layer with raw counts."


def open_counts(
    path: Path, name: str, gene_name_key: str | None = None, counts_layer: str | None = None
) -> Counts:
    """Open an h5ad and check its shape and names; `name` is the dataset's in the configuration."""
    with _open(path) as file:
        element = _counts_element(file, path, name, counts_layer)
        obs, var = (_read_frame(file, path, key) for key in ("obs", "var"))
        _refuse_no_matrix(file[element], path, name)
        shape, num_entries = _shape(file[element]), _num_entries(file[element])
    if shape != (len(obs), len(var)):
        raise InputError(
            f"{path}: {element} is {shape[0]} × {shape[1]}, but obs and var name {len(obs)} cells "
            f"and {len(var)} genes; the file is damaged. Write it again."
        )
    for what, count in (("cells", len(obs)), ("genes", len(var))):
        if count == 0:
            raise InputError(f"{path} has no {what}; expected raw counts of cells × genes.")
    cells = obs.index.to_numpy(dtype=str)
    genes = _gene_names(var, name, gene_name_key)
    _refuse_repeated(cells, f"{path}: cell names", "Make them unique, e.g. with a batch prefix.")
    _refuse_repeated(
        genes,
        f"{path}: gene names",
        f"Make them unique, or set datasets.{name}.gene_name_key to a var column that is.",
    )
    return Counts(Path(path), element, obs, var, genes, cells, num_entries)


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected an h5ad with raw counts.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected an h5ad file (zarr stores are not read).")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path} is empty (0 bytes); write or download it again.")
    if not h5py.is_hdf5(path):
        raise InputError(
            f"{path} ({size} bytes) is not an h5ad (not HDF5); expected an h5ad with raw counts."
        )
    try:
        file = h5py.File(path)
    except OSError as error:
        raise InputError(_unreadable(path, size, error)) from error
    with file:
        try:
            yield file
        except (OSError, KeyError) as error:
            # A damaged block is noticed only when it is read, damaged names as KeyError "Unable to
            # ...". The system's own errors (a disk that went away) carry an errno.
            of_hdf5 = isinstance(error, OSError) or "Unable to" in str(error)
            if not of_hdf5 or getattr(error, "errno", None) is not None:
                raise
            raise InputError(
                f"{path} ({size} bytes) is damaged ({error}); write or download it again."
            ) from error


def _unreadable(path: Path, size: int, error: OSError) -> str:
    # HDF5: "truncated file: eof = 4096, sblock->base_addr = 0, stored_eof = 8192".
    expected = re.search(r"truncated file.*stored_eof = (\d+)", str(error))
    if expected:
        reason = f"is truncated: it has {size} bytes and should have {expected[1]}"
    else:
        reason = f"({size} bytes) is unreadable ({error})"
    return f"{path} {reason}; write or download it again."


def _counts_element(file: h5py.File, path: Path, name: str, layer: str | None) -> str:
    missing = [key for key in ("obs", "var") if key not in file]
    if missing or (layer is None and "X" not in file):
        missing += [] if "X" in file else ["X"]
        raise InputError(
            f"{path} is HDF5 but not an h5ad: it has no {listed(missing)}; "
            f"it holds {listed(sorted(file)) or 'nothing'}. Write it with anndata."
        )
    if layer is None:
        return "X"
    if f"layers/{layer}" not in file:
        raise InputError(
            f"Dataset {name!r} has no layer {layer!r}; its layers are "
            f"{listed(sorted(file.get('layers', []))) or 'none'}. Set datasets.{name}.counts_layer "
            "to one of them, or to null for X."
        )
    return f"layers/{layer}"


def _read_frame(file: h5py.File, path: Path, key: str) -> pd.DataFrame:
    if not isinstance(file[key], h5py.Group) or "encoding-type" not in file[key].attrs:
        raise InputError(
            f"{path}: {key} has the layout of anndata before 0.7; "
            "read the file with anndata and write it again."
        )
    try:
        _refuse_damaged_columns(file[key], path)
        return ad.io.read_elem(file[key])
    except (InputError, OSError, KeyError, MemoryError):  # _open names what HDF5 could not read
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
        what, shape = f"{path}: {frame.name[1:]} column {key!r}", _column_shape(frame[key])
        if shape != names:
            raise InputError(
                f"{what} has shape {shape}; expected {names}, that of the names of its rows. The "
                "file is damaged; write or download it again."
            )
        if frame[key].attrs.get("encoding-type") == "categorical":
            _refuse_unknown_codes(frame[key], what)


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


def _refuse_no_matrix(element: h5py.Group | h5py.Dataset, path: Path, name: str) -> None:
    encoding = element.attrs.get("encoding-type")
    sparse = isinstance(element, h5py.Group)
    dtype = getattr(element.get("data") if sparse else element, "dtype", None)
    shape = _shape(element)
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
        f"datasets.{name}.counts_layer to where the raw counts are."
    )


def _shape(element: h5py.Group | h5py.Dataset) -> tuple[int, ...]:
    if isinstance(element, h5py.Group):
        return tuple(int(size) for size in element.attrs.get("shape", ()))
    return element.shape or ()  # a null has None


def _num_entries(element: h5py.Group | h5py.Dataset) -> int | None:
    return len(element["data"]) if isinstance(element, h5py.Group) else None


def _row_reader(element: h5py.Group | h5py.Dataset):
    """Something that gives rows for a slice; CSC has no rows on disk and is read whole."""
    if isinstance(element, h5py.Dataset):
        return computable(element)
    if element.attrs["encoding-type"] == "csr_matrix":
        return CsrFile(element)
    return read_csc(element)


def _gene_names(var: pd.DataFrame, name: str, key: str | None) -> np.ndarray:
    names = var.index.to_series() if key is None else column(var, key, name, "var", "gene_name_key")
    missing = np.flatnonzero(is_missing(names))
    if len(missing):
        raise InputError(
            f"Dataset {name!r} has {len(missing)} genes without a name, "
            f"first {var.index[missing[0]]!r}; name them, "
            f"or set datasets.{name}.gene_name_key to a var column that is complete."
        )
    return names.to_numpy(dtype=str)


def column(frame: pd.DataFrame, key: str, name: str, where: str, setting: str) -> pd.Series:
    """One column of obs or var, or the names of those that exist and the setting that chose it."""
    if key not in frame.columns:
        raise InputError(
            f"Dataset {name!r} has no {where} column {key!r}; its columns are "
            f"{listed(frame.columns, 30) or 'none'}. Set datasets.{name}.{setting}."
        )
    return frame[key]


def is_missing(values: pd.Series) -> np.ndarray:
    """True where a label is absent; "nan" is what a missing label becomes in a text column."""
    text = values.astype(object).map(lambda value: str(value).strip())
    return (values.isna() | text.isin(["", "nan", "None", "<NA>"])).to_numpy(dtype=bool)


def _refuse_repeated(names: np.ndarray, what: str, remedy: str) -> None:
    repeated = pd.unique(names[pd.Series(names).duplicated().to_numpy()])
    if len(repeated):
        raise InputError(
            f"{what} must be unique; {listed(repeated)} stand more than once. {remedy}"
        )
