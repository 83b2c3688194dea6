"""Cells of an annbatch collection, or of one AnnData, in zarr v3: slices of long arrays.

A collection is a group of dataset_0, dataset_1, ..., each an AnnData whose X is a csr_matrix.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.indexing import BasicIndexer, ChunkProjection, Indexer
from zarr.core.sync import sync

from vcpipe.data.cell_store.cells import NOTHING
from vcpipe.data.checked_counts import Place
from vcpipe.data.loading.fetched_cells import (
    FetchedCells,
    cells_of_matrix,
    fetched_cells,
    file_numbers,
    label_codes,
    range_of,
    read_column,
    read_names,
    refuse_other_genes,
)
from vcpipe.data.loading.reader import LabelCodes
from vcpipe.errors import InputError, listed

# What annbatch knows its collections by.
COLLECTION = {"encoding-type": "annbatch-preshuffled", "encoding-version": "0.1.0"}
RUST = "zarrs.ZarrsCodecPipeline"
DAMAGED = "The collection is damaged; write or download it again."


class ZarrReader:
    """Cells of the datasets, one after the other; starts of rows are held, the rest is read.

    A cell's key is made of the folder's name and its position in all of it.
    """

    def __init__(self, path: Path, first: int = 0, stop: int | None = None):
        self.path = Path(path)
        self.files = [self.path]
        with _fast_decoding():
            self.groups = _groups(self.path)
            self.matrices = [_opened(self.path, *named) for named in self.groups.items()]
        names = [f"{self.path}/{name}".rstrip("/") for name in self.groups]
        self.genes = self.matrices[0].genes
        for name, matrix in zip(names, self.matrices, strict=True):
            refuse_other_genes(matrix.genes, name, self.genes, names[0])
        sizes = [len(matrix.starts) - 1 for matrix in self.matrices]
        self.offsets = np.append(0, np.cumsum(sizes, dtype=np.int64))
        self.first, self.stop = range_of(int(self.offsets[-1]), first, stop, str(self.path))
        (self.number,) = file_numbers([self.path.name])
        self.kinds = [
            np.result_type(*(getattr(matrix, name).dtype for matrix in self.matrices))
            for name in ("data", "indices")
        ]
        # Of the first dataset: the last may hold few cells, in chunks as short as it is.
        of_first = self.matrices[0]
        mean = max(of_first.starts[-1], 1) / max(sizes[0], 1)
        self.block_size = max(round(of_first.chunk / mean), 1)

    def __reduce__(self):
        return ZarrReader, (self.path, self.first, self.stop)

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def num_genes(self) -> int:
        return len(self.genes)

    @property
    def bytes(self) -> int:
        """What the collection takes on disk."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def read(self, positions: np.ndarray) -> FetchedCells:
        positions = np.asarray(positions, dtype=np.int64)
        if not len(positions):
            return FetchedCells(positions, NOTHING, positions)
        distinct = np.unique(positions)
        assert distinct[0] >= 0
        assert distinct[-1] < len(self)
        rows = distinct + self.first
        place = Place(
            str(self.path),
            cell=lambda row: self._cell_name(int(rows[row])),
            feature=lambda column: self.genes[column],
            setting="what the collection is written from",
        )
        cells = cells_of_matrix(self._rows(rows), place, self.number, rows)
        return fetched_cells(positions, distinct, cells)

    def _rows(self, rows: np.ndarray) -> sp.csr_matrix:
        """Rows that ascend, of all datasets in one request."""
        limits = np.searchsorted(rows, self.offsets)
        wanted = [
            (matrix, matrix.stretches(rows[begin:end] - offset), offset)
            for matrix, offset, (begin, end) in zip(
                self.matrices, self.offsets[:-1], pairwise(limits.tolist()), strict=True
            )
            if end > begin
        ]
        lengths = np.concatenate([matrix.lengths(its) for matrix, its, _ in wanted])
        starts = np.append(0, np.cumsum(lengths))
        data, indices = np.empty(starts[-1], self.kinds[0]), np.empty(starts[-1], self.kinds[1])
        readings, done = [], 0
        for matrix, its, _ in wanted:
            spans = matrix.spans(its)
            size = sum(span.stop - span.start for span in spans)
            for array, out in ((matrix.data, data), (matrix.indices, indices)):
                readings.append(_read(array, spans, out[done : done + size]))
            done += size
        try:
            sync(_all_of(readings))
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"{self.path} cannot be decoded ({error}). {DAMAGED}") from error
        block = sp.csr_matrix((data, indices, starts), (len(lengths), self.num_genes))
        if len(lengths) == len(rows):
            return block
        every = np.concatenate([_within(its) + offset for _, its, offset in wanted])
        return block[np.searchsorted(every, rows)]

    def _cell_name(self, row: int) -> str:
        number = int(np.searchsorted(self.offsets, row, side="right")) - 1
        obs = list(self.groups.values())[number]["obs"]
        return read_names(obs[obs.attrs["_index"]])[row - self.offsets[number]]

    def label_codes(self, columns: Sequence[str]) -> LabelCodes:
        parts_of_columns = [[] for _ in columns]
        ranges = pairwise(self.offsets.tolist())
        for group, (begin, end) in zip(self.groups.values(), ranges, strict=True):
            its = slice(max(self.first - begin, 0), max(self.stop - begin, 0))
            for parts, column in zip(parts_of_columns, columns, strict=True):
                values = read_column(group["obs"], column, end - begin, self.path)
                parts.append(values.iloc[its])
        return label_codes(parts_of_columns)


@dataclass(frozen=True)
class _Matrix:
    """X of one dataset."""

    starts: np.ndarray  # int64
    data: zarr.AsyncArray
    indices: zarr.AsyncArray
    genes: np.ndarray
    chunk: int  # entries that are compressed together

    def stretches(self, rows: np.ndarray) -> np.ndarray:
        """First and last + 1 of rows that follow each other or share a chunk, as two columns."""
        # A chunk is decoded whole, so what lies between two rows in one costs next to nothing.
        begins, ends = self.starts[rows[1:]], self.starts[rows[:-1] + 1]
        apart = (np.diff(rows) != 1) & (begins // self.chunk > (ends - 1) // self.chunk)
        breaks = np.flatnonzero(apart) + 1
        heads, tails = np.append(0, breaks), np.append(breaks, len(rows)) - 1
        return np.column_stack([rows[heads], rows[tails] + 1])

    def lengths(self, stretches: np.ndarray) -> np.ndarray:
        rows = _within(stretches)
        return self.starts[rows + 1] - self.starts[rows]

    def spans(self, stretches: np.ndarray) -> list[slice]:
        """Their entries, without stretches that have none."""
        entries = self.starts[stretches].tolist()
        return [slice(begin, end) for begin, end in entries if end > begin]


def _within(stretches: np.ndarray) -> np.ndarray:
    return np.concatenate([np.arange(first, stop) for first, stop in stretches.tolist()])


class _Spans(Indexer):
    """Several slices of a one-dimensional array, one after the other."""

    def __init__(self, array: zarr.AsyncArray, spans: list[slice]):
        grid = array.metadata.chunk_grid
        self.parts = [BasicIndexer((span,), shape=array.shape, chunk_grid=grid) for span in spans]
        self.shape = (sum(part.shape[0] for part in self.parts),)
        self.drop_axes = ()

    def __iter__(self) -> Iterator[ChunkProjection]:
        done = 0
        for part in self.parts:
            for projection in part:
                (out,) = projection.out_selection
                place = slice(out.start + done, out.stop + done)
                yield projection._replace(out_selection=(place,))
            done += part.shape[0]


async def _read(array: zarr.AsyncArray, spans: list[slice], out: np.ndarray) -> None:
    """All slices in one request, two to three times as fast as one by one.

    zarr has no public name for that; annbatch asks in the same way.
    """
    if not spans:
        return
    # Datasets that were written apart may differ in their types.
    values = out if out.dtype == array.dtype else np.empty(len(out), array.dtype)
    prototype = default_buffer_prototype()
    await array._get_selection(
        _Spans(array, spans),
        prototype=prototype,
        out=prototype.nd_buffer.from_numpy_array(values),
    )
    if values is not out:
        out[:] = values


async def _all_of(readings) -> None:
    await asyncio.gather(*readings)


def _fast_decoding() -> AbstractContextManager:
    """Open arrays with a pipeline in Rust, which is several times faster, where it is installed."""
    known = {point.value.replace(":", ".") for point in entry_points(group="zarr.codec_pipeline")}
    return zarr.config.set({"codec_pipeline.path": RUST}) if RUST in known else nullcontext()


def _groups(path: Path) -> dict[str, zarr.Group]:
    """The datasets of a collection by name, or the one AnnData under none."""
    if not path.exists():
        raise InputError(f"{path} does not exist; expected an annbatch collection in zarr.")
    try:
        root = zarr.open_group(path, mode="r")
    except (zarr.errors.GroupNotFoundError, ValueError) as error:
        raise InputError(
            f"{path} is no zarr group ({error}); expected an annbatch collection."
        ) from error
    encoding = root.attrs.get("encoding-type")
    if encoding == "anndata":
        return {"": root}
    found = {
        int(match[1]): key
        for key in root.group_keys()
        if (match := re.fullmatch(r"dataset_(\d+)", key))
    }
    if not COLLECTION.items() <= dict(root.attrs).items() or not found:
        raise InputError(
            f"{path} has attributes {dict(root.attrs)} and holds "
            f"{listed(sorted(root)) or 'nothing'}; expected {COLLECTION} and dataset_0, "
            "dataset_1, ..., or an AnnData. Write it with annbatch's DatasetCollection or with "
            "anndata."
        )
    return {found[number]: root[found[number]] for number in sorted(found)}


def _opened(path: Path, name: str, group: zarr.Group) -> _Matrix:
    what = f"{path}: {name}/X".replace(" /", " ")
    if "X" not in group:
        raise InputError(f"{what} is not there; expected counts of cells × genes as csr_matrix.")
    matrix = group["X"]
    encoding = matrix.attrs.get("encoding-type")
    if encoding != "csr_matrix":
        raise InputError(
            f"{what} is encoded as {encoding!r}; expected csr_matrix. Write it again from "
            "X.tocsr()."
        )
    shape = tuple(int(size) for size in matrix.attrs["shape"])
    data, indices = matrix["data"], matrix["indices"]
    var = group["var"]
    genes = read_names(var[var.attrs["_index"]])
    starts = matrix["indptr"][:].astype(np.int64, copy=False)
    if (
        len(starts) != shape[0] + 1
        or len(genes) != shape[1]
        or data.shape != indices.shape
        or starts[0] != 0
        or starts[-1] != data.shape[0]
        or (np.diff(starts) < 0).any()
    ):
        raise InputError(
            f"{what} is no CSR matrix of {shape[0]} × {shape[1]}: it has {len(starts)} row starts, "
            f"{len(genes)} genes, {indices.shape[0]} indices and {data.shape[0]} values. {DAMAGED}"
        )
    for array in (data, indices):
        _refuse_lost_files(array, f"{what}/{array.basename}")
    return _Matrix(starts, data.async_array, indices.async_array, genes, data.chunks[0])


def _refuse_lost_files(array: zarr.Array, what: str) -> None:
    """To zarr a file that is not there is one of zeros: genes that were never detected."""
    (length,), (chunk,) = array.shape, array.chunks
    (file,) = array.shards or array.chunks
    expected = -(-length // file)
    found = array.nchunks_initialized // (file // chunk)
    if found != expected:
        raise InputError(f"{what} has {found} files; expected {expected}. {DAMAGED}")
