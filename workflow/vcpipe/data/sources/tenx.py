"""10x: .h5 of Cell Ranger 2 and 3, and folders with matrix.mtx; features × cells on disk."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

from vcpipe.data.csr_file import CsrFile
from vcpipe.data.row_readers import MemoryRows, Rows
from vcpipe.data.sources.cells import ListedCells, open_cells
from vcpipe.data.sources.features import wanted_features
from vcpipe.data.sources.matrix import CellMatrix, Wanted
from vcpipe.errors import InputError, listed

FEATURE_TYPES = {"rna": "Gene Expression", "atac": "Peaks"}
MATRIX = ("barcodes", "data", "indices", "indptr", "shape")


def matrix_group(file: h5py.File, path: Path) -> str | None:
    """Where the matrix of 10x is: "matrix" of Cell Ranger 3, the genome's name of 2; or nowhere."""
    found = [key for key in file if isinstance(file[key], h5py.Group)]
    found = [key for key in found if all(name in file[key] for name in MATRIX)]
    if len(found) > 1:
        raise InputError(
            f"{path} holds matrices of several genomes ({listed(found)}); expected one. Split it, "
            "or count again with Cell Ranger 3 or later."
        )
    return found[0] if found else None


def open_tenx_h5(file: h5py.File, path: Path, wanted: Wanted, element: str) -> CellMatrix:
    """The columns of a modality in an open .h5: CSC of features × cells is CSR of cells."""
    _refuse_layer(path, wanted)
    group = file[element]
    num_features, num_cells = (int(size) for size in group["shape"][:])
    var = _h5_features(group, path)
    barcodes = group["barcodes"][:]
    _refuse_other_sizes(path, (num_features, num_cells), len(var), len(barcodes), element)

    @contextmanager
    def opened() -> Iterator[Rows]:
        with open_cells(path) as file:
            yield CsrFile(file[element], (num_cells, num_features))

    return _matrix(path, element, wanted, ListedCells(barcodes), var, opened)


def _h5_features(group: h5py.Group, path: Path) -> pd.DataFrame:
    if "features" in group:
        columns = {
            key: group["features"][key].asstr()[:]
            for key in ("name", "id", "feature_type", "genome")
            if key in group["features"]
        }
    else:
        columns = {
            ours: group[key].asstr()[:]
            for ours, key in (("name", "gene_names"), ("id", "genes"))
            if key in group
        }
    if "name" not in columns or len({len(column) for column in columns.values()}) > 1:
        raise InputError(
            f"{path}: {group.name[1:]} names no features; expected those of Cell Ranger 2 or 3. "
            "Write or download it again."
        )
    return pd.DataFrame(columns)


def open_tenx_folder(path: Path, wanted: Wanted) -> CellMatrix:
    """A folder with matrix.mtx, barcodes.tsv and features.tsv, genes.tsv or peaks.bed (or .gz)."""
    _refuse_layer(path, wanted)
    matrix = _one_of(path, "matrix.mtx")
    barcodes = _read_lines(_one_of(path, "barcodes.tsv"))
    barcodes = np.array([line.split("\t")[0] for line in barcodes], dtype=object)
    var = _folder_features(_one_of(path, "features.tsv", "genes.tsv", "peaks.bed"))
    _refuse_other_sizes(path, _mtx_shape(matrix), len(var), len(barcodes), matrix.name)

    @contextmanager
    def opened() -> Iterator[Rows]:
        yield MemoryRows(_read_mtx(matrix, (len(var), len(barcodes))))

    return _matrix(path, matrix.name, wanted, ListedCells(barcodes), var, opened)


def files_of(path: Path) -> list[Path]:
    """The files of a folder that are read."""
    parts = (("matrix.mtx",), ("barcodes.tsv",), ("features.tsv", "genes.tsv", "peaks.bed"))
    return [_one_of(path, *names) for names in parts]


def _matrix(path, element, wanted: Wanted, cells: ListedCells, var, opened) -> CellMatrix:
    key = wanted.name_key or "name"
    if key not in var:
        raise InputError(
            f"{path} has no {key!r} of features; it has {listed(var.columns)}. Set "
            f"{wanted.setting}.name_key to one of them, or to null for name."
        )
    kept = None
    if "feature_type" in var:
        kept = (var["feature_type"] == FEATURE_TYPES[wanted.modality]).to_numpy()
        if not kept.any():
            raise InputError(
                f"{path} has no features of type {FEATURE_TYPES[wanted.modality]!r}; its types are "
                f"{listed(sorted(set(var['feature_type'])))}. Take it out of "
                f"{wanted.setting}.paths."
            )
    if not len(cells):
        raise InputError(f"{path} has no cells; expected raw counts of cells.")
    ids = var.rename(columns={"id": "gene_id"})
    features, place = wanted_features(path, ids, var[key], wanted, kept)
    return CellMatrix(path, element, wanted, cells, features, place, opened, features.names)


def _refuse_layer(path: Path, wanted: Wanted) -> None:
    if wanted.layer != "X":
        raise InputError(
            f"{path} is of 10x and has one matrix, no {wanted.layer!r}; leave out "
            f"{wanted.setting}.layer."
        )


def _refuse_other_sizes(
    path: Path, shape: tuple[int, int], num_features: int, num_cells: int, element: str
) -> None:
    if shape != (num_features, num_cells):
        raise InputError(
            f"{path}: {element} is of {shape[0]} features × {shape[1]} cells, but {num_features} "
            f"features and {num_cells} cells are named; the files do not belong together or are "
            "damaged. Write or download them again."
        )


def _one_of(folder: Path, *names: str) -> Path:
    found = [folder / f"{name}{end}" for name in names for end in ("", ".gz")]
    found = [path for path in found if path.exists()]
    if not found:
        raise InputError(
            f"{folder} has no {' or '.join(names)} (or .gz); expected the folder that Cell Ranger "
            "writes: matrix.mtx, barcodes.tsv and features.tsv."
        )
    return found[0]


def _read_lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(_damaged(path, error)) from error
    return content.decode("utf-8", "backslashreplace").splitlines()


def _folder_features(path: Path) -> pd.DataFrame:
    lines = [line.split("\t") for line in _read_lines(path)]
    lines = [line for line in lines if not line[0].startswith("#")]
    num_columns = len(lines[0]) if lines else 1
    is_bed = path.name.startswith("peaks.bed")
    if any(len(line) < num_columns for line in lines) or (is_bed and num_columns < 3):
        raise InputError(
            f"{path} has too few columns in some line; expected "
            f"{'chromosome, start, end' if is_bed else 'id, name, type'}. Write or download it "
            "again."
        )
    if is_bed:
        return pd.DataFrame({"name": [f"{line[0]}:{line[1]}-{line[2]}" for line in lines]})
    keys = ["id", "name", "feature_type"][:num_columns] if num_columns > 1 else ["name"]
    return pd.DataFrame([line[: len(keys)] for line in lines], columns=keys, dtype=object)


def _mtx_shape(path: Path) -> tuple[int, int]:
    try:
        num_rows, num_columns, *_ = scipy.io.mminfo(path)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise InputError(_damaged(path, error)) from error
    return int(num_rows), int(num_columns)


def _read_mtx(path: Path, shape: tuple[int, int]) -> sp.csr_matrix:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as text:
            matrix = scipy.io.mmread(_AsReal(text))
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise InputError(_damaged(path, error)) from error
    if matrix.shape != shape or matrix.dtype.kind not in "iuf":
        raise InputError(
            f"{path} holds {matrix.dtype} of {matrix.shape}; expected counts of {shape}."
        )
    if not sp.issparse(matrix):
        return sp.csr_matrix(matrix.T)
    # Entries that stand twice stay two, until each was seen to be a count.
    data, genes, cells = matrix.data, matrix.row, matrix.col
    if (np.diff(cells) < 0).any():
        order = np.argsort(cells, kind="stable")
        data, genes, cells = data[order], genes[order], cells[order]
    ends = np.append(0, np.cumsum(np.bincount(cells, minlength=shape[1])))
    return sp.csr_matrix((data, genes, ends), shape[::-1])


class _AsReal(io.RawIOBase):
    """The text of a matrix, read as real numbers: of integers 1.5 would be 1, without a word."""

    def __init__(self, text: io.BufferedIOBase):
        self.text = text
        self.header = text.readline().replace(b" integer ", b" real ", 1)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content, self.header = self.header or self.text.read(size), b""
        return content


def _damaged(path: Path, error: Exception) -> str:
    return (
        f"{path} ({path.stat().st_size} bytes) cannot be read ({' '.join(str(error).split())}); it "
        "is damaged or truncated. Write or download it again."
    )
