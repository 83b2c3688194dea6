"""Why the store has blocks of its own: beside a zarr v3 collection that is read through zarrs.

    python -m venv work/zarrs && work/zarrs/bin/pip install -r requirements.lock zarrs==0.2.3
    work/zarrs/bin/python -m tests.benchmarks.store_formats FOLDER [NUM_CELLS]

Blocks of 256 cells at random, from the page cache; CPU time of all threads counts.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata as ad
import numpy as np
import zarr
from zarr.codecs import BloscCodec

from tests.benchmarks.preparation_store import write
from tests.benchmarks.simulated_cells import write_cells
from vcpipe.data.cell_store.reading import open_store

BLOCK = 256
SECONDS = 4.0
ZARRS = "zarrs.ZarrsCodecPipeline"


def main(folder: Path, num_cells: int = 20_000) -> None:
    raw = folder / "cells.h5ad"
    print(f"{write_cells(raw, num_cells):.0f} entries per cell")
    counts = ad.read_h5ad(raw).X
    for compression in ("zstd", "lz4"):
        path = folder / f"packed_{compression}"
        write(raw, path, compression=compression)
        report(f"packed, {compression} 1", path, packed, num_cells)
    for name, cname, rows_per_chunk in (
        ("zarr, zstd 3, chunks of 64 rows", "zstd", 64),
        ("zarr, zstd 3, chunks of 256 rows", "zstd", 256),
        ("zarr, lz4, chunks of 64 rows", "lz4", 64),
    ):
        path = folder / f"{cname}{rows_per_chunk}.zarr"
        write_zarr(path, counts, cname, rows_per_chunk * counts.nnz // num_cells)
        report(name, path, collection, num_cells)


def write_zarr(path: Path, counts, cname: str, chunk: int) -> None:
    """CSR in 16 bits, shuffled bytes, as annbatch lays it out; zarrs has no delta filter."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    shard = chunk * 64
    for name, values in (("data", counts.data), ("indices", counts.indices)):
        assert values.max() < 2**16
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=np.uint16,
            chunks=(chunk,),
            shards=(shard,),
            compressors=BloscCodec(cname=cname, clevel=3, shuffle="shuffle", typesize=2),
        )
        array[:] = values.astype(np.uint16)
    group.create_array("indptr", data=counts.indptr.astype(np.int64))


def packed(path: Path, threads: int) -> tuple[int, Callable]:
    store = open_store(path)
    return store.num_blocks, store.block


def collection(path: Path, threads: int) -> tuple[int, Callable]:
    zarr.config.set({"codec_pipeline.path": ZARRS, "threading.max_workers": threads})
    group = zarr.open_group(path, mode="r")
    data, indices, starts = group["data"], group["indices"], group["indptr"][:]

    def block(number: int):
        entries = slice(starts[number * BLOCK], starts[min((number + 1) * BLOCK, len(starts) - 1)])
        return data[entries], indices[entries]

    return -(-(len(starts) - 1) // BLOCK), block


def report(name: str, path: Path, opened: Callable, num_cells: int) -> None:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    line = f"{name}: {size / num_cells:,.0f} bytes per cell"
    for threads in (1, 2):
        opening = time.perf_counter()
        num_blocks, block = opened(path, threads)
        opening = time.perf_counter() - opening
        block(0)  # compiles, and begins threads
        order = np.random.default_rng(0).integers(0, num_blocks - 1, 100_000).tolist()
        wall, cpu = time.perf_counter(), time.process_time()
        done = 0
        with ThreadPoolExecutor(threads) as pool:
            while time.perf_counter() - wall < SECONDS:
                list(pool.map(block, order[done : done + 32]))
                done += 32
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        line += (
            f"; {threads} threads: opened in {1e3 * opening:.1f} ms, {BLOCK * done / cpu:,.0f} "
            f"cells per CPU second, {BLOCK * done / wall:,.0f} per second"
        )
    print(line, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
