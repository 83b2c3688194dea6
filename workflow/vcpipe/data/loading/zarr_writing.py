"""The cells of any reader as an annbatch collection, in the reader's order and bounded memory."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from vcpipe.data.checked_counts import LARGEST_COUNT
from vcpipe.data.loading.reader import Reader
from vcpipe.data.loading.zarr_reader import COLLECTION
from vcpipe.data.rows import Rows
from vcpipe.errors import InputError
from vcpipe.files import writing

CELLS_PER_DATASET = 2**20
# Chunks of a shard, which is one file and what is held of each array: 40 MB at 2400 genes a cell.
CHUNKS_PER_SHARD = 64
CELLS_AT_A_TIME = 4096
ABOUT = "about"  # an attribute of the collection


def write_collection(
    reader: Reader,
    path: Path,
    obs,
    genes: Sequence[str],
    *,
    cells_per_dataset: int = CELLS_PER_DATASET,
    chunk_cells: int = 64,
    compression: str = "lz4",
    about: Mapping | None = None,
) -> None:
    """Write all cells and their labels: `obs` has a row for each, `genes` a name for each id.

    annbatch warns where the name of the folder does not end in .zarr. Chunks hold about
    `chunk_cells` cells; `compression` is one of Blosc's, lz4 or zstd. `about` is what JSON can
    hold, for read_about.
    """
    labels = _labels(obs, len(reader))
    var = pd.DataFrame(index=pd.Index(np.asarray(genes, dtype=str).astype(object)))
    with writing(path) as partial:
        root = zarr.open_group(partial, mode="w", zarr_format=3)
        for number, first in enumerate(range(0, len(reader), cells_per_dataset)):
            last = min(first + cells_per_dataset, len(reader))
            name = f"dataset_{number}"
            # anndata writes zarr v2 unless it is told.
            with ad.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
                ad.io.write_elem(root, name, ad.AnnData(obs=labels.iloc[first:last], var=var))
            if "X" in root[name]:
                del root[name]["X"]
            group, blocks = root[name].create_group("X"), _blocks(reader, first, last)
            _write_matrix(group, blocks, len(var), chunk_cells, compression)
        root.attrs.update(COLLECTION | ({ABOUT: dict(about)} if about else {}))


def read_about(path: Path) -> dict:
    """What a collection was said to be when it was written; nothing where nothing was said."""
    return dict(zarr.open_group(path, mode="r").attrs.get(ABOUT, {}))


def _labels(obs, num_cells: int) -> pd.DataFrame:
    labels = pd.DataFrame(obs).copy()
    if len(labels) != num_cells:
        raise InputError(
            f"There are labels of {len(labels)} cells, but the reader has {num_cells}; give a row "
            "for each cell, in the reader's order."
        )
    # A name of the index would be one more column.
    labels.index = labels.index.astype(str).rename(None)
    for column, values in labels.items():
        # Categories of all cells, so that they are the same in every dataset.
        if values.dtype == object or isinstance(values.dtype, pd.StringDtype):
            labels[column] = values.astype("category")
    return labels


def _blocks(reader: Reader, first: int, last: int) -> Iterator[Rows]:
    step = max(CELLS_AT_A_TIME // reader.block_size, 1) * reader.block_size
    for start in range(first, last, step):
        stop = min(start + step, last)
        yield reader.read(np.arange(start, stop)).rows(np.arange(stop - start))


def _write_matrix(
    group: zarr.Group, blocks: Iterator[Rows], num_genes: int, chunk_cells: int, compression: str
) -> None:
    indices_kind = np.min_scalar_type(num_genes)
    starts = [np.zeros(1, dtype=np.int64)]
    arrays: list[_GrowingArray] = []
    for rows in blocks:
        _refuse_unwritable(rows, num_genes)
        if not arrays:
            # As annbatch chunks: by the mean of a cell, here of the first block.
            chunk = max(chunk_cells * len(rows.ids) // len(rows), 1)
            arrays = [
                _GrowingArray(group, name, kind, chunk, compression)
                for name, kind in (("data", np.float32), ("indices", indices_kind))
            ]
        for array, values in zip(arrays, (rows.counts, rows.ids), strict=True):
            array.append(values)
        starts.append(starts[-1][-1] + rows.starts[1:])
    for array in arrays:
        array.close()
    indptr = np.concatenate(starts)
    group.create_array("indptr", data=indptr)
    shape = [len(indptr) - 1, num_genes]
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})


def _refuse_unwritable(rows: Rows, num_genes: int) -> None:
    if rows.ids.max(initial=-1) >= num_genes:
        raise InputError(
            f"A cell has gene number {rows.ids.max()}, but there are {num_genes} names of genes; "
            "give a name for each."
        )
    if rows.counts.max(initial=0) > LARGEST_COUNT:
        raise InputError(
            f"A cell has count {rows.counts.max()}; a collection holds float32, which is exact up "
            f"to {LARGEST_COUNT}. Leave the gene out, or read the store itself."
        )


class _GrowingArray:
    """A sharded array that grows by whole shards."""

    def __init__(self, group: zarr.Group, name: str, kind: type, chunk: int, compression: str):
        self.array = group.create_array(
            name,
            shape=(0,),
            dtype=kind,
            chunks=(chunk,),
            shards=(chunk * CHUNKS_PER_SHARD,),
            compressors=BloscCodec(cname=compression, clevel=3, shuffle="shuffle"),
            # A reader takes a file that is not there for one that was lost.
            config={"write_empty_chunks": True},
        )
        self.shard = chunk * CHUNKS_PER_SHARD
        self.waiting: list[np.ndarray] = []
        self.num_waiting = 0

    def append(self, values: np.ndarray) -> None:
        self.waiting.append(values.astype(self.array.dtype))
        self.num_waiting += len(values)
        if self.num_waiting >= self.shard:
            values = np.concatenate(self.waiting)
            whole = len(values) // self.shard * self.shard
            self.array.append(values[:whole])
            self.waiting, self.num_waiting = [values[whole:]], len(values) - whole

    def close(self) -> None:
        if self.num_waiting:
            self.array.append(np.concatenate(self.waiting))
