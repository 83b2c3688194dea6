"""From raw counts to a shuffled store, beside anndata's own way: read, shuffle, write an h5ad.

    python -m tests.benchmarks.preparation_store write RAW OUT
    python -m tests.benchmarks.preparation_store shuffle RAW OUT

Time begins after the imports. The peer's file is what anndata writes by default: float32, not
compressed.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

from tests.benchmarks.measuring import Row, row, run
from tests.benchmarks.our_conversion import peak_mb
from tests.benchmarks.simulated_cells import NUM_GENES, write_cells
from vcpipe.config.cell_store import CellStore
from vcpipe.config.fitting import Filters
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.cell_store.scattering import SourceToStore, StoreVocabulary
from vcpipe.data.cell_store.writing import write_store
from vcpipe.data.counts import open_counts
from vcpipe.data.sources.source import Chunk, Features

CELLS_PER_CPU_SECOND = 5_000
PEAK_MB = 1_000
BYTES_PER_CELL = 2_500


def preparation_store(folder: Path, num_cells: int = 20_000, repeats: int = 5) -> list[Row]:
    """Both on the same file in turns; ours once more on ten times as many cells."""
    raw, large = folder / "cells.h5ad", folder / "many_cells.h5ad"
    print(f"{write_cells(raw, num_cells):.0f} entries per cell", flush=True)
    here = (sys.executable, "-m", "tests.benchmarks.preparation_store")
    # The first run compiles the loops, which a user waits for once.
    run(*here, "write", raw, folder / "store")
    check_same_counts(raw, folder / "store")
    ours, peers = [], []
    for _ in range(repeats):
        ours.append(run(*here, "write", raw, folder / "store"))
        peers.append(run(*here, "shuffle", raw, folder / "shuffled.h5ad"))
        print(f"{told(ours[-1])}; anndata: {told(peers[-1])}", flush=True)
    write_cells(large, 10 * num_cells)
    print(told(run(*here, "write", large, folder / "store")), flush=True)
    large.unlink()
    print(
        f"asked: {CELLS_PER_CPU_SECOND:,} cells per CPU second, below {PEAK_MB:,} MB, at most "
        f"{BYTES_PER_CELL:,} bytes per cell"
    )
    version = f"anndata {peers[-1]['version']}"

    def compared(name: str, key: str, unit: str, share: float = 1.0, floor=None) -> Row:
        our, its = ([each[key] * share for each in found] for found in (ours, peers))
        return row(name, our, its, unit, version, floor=floor)

    return [
        compared("prepare_write", "cpu", "CPU s"),
        compared("prepare_write_memory", "peak_mb", "MB"),
        # 19.5 KB are said of a float32 h5ad.
        compared("prepare_write_size", "bytes", "bytes per cell", 1 / num_cells, 19.5 / 2.5),
    ]


def told(found: dict) -> str:
    num_cells = found["num_cells"]
    return (
        f"{num_cells:,} cells, {num_cells / found['cpu']:,.0f} per CPU second, "
        f"{found['peak_mb']:.0f} MB, {found['bytes'] / num_cells:,.0f} bytes per cell"
    )


def check_same_counts(raw: Path, stored: Path) -> None:
    """Every count of every cell, matched by the names of cells and genes."""
    cells, store = ad.read_h5ad(raw), open_store(stored)
    rows = store.rows(np.arange(len(store)))
    back = sp.csr_matrix((rows.counts, rows.ids, rows.starts), (len(store), cells.n_vars))
    names = store.labels(columns=["cell"])["cell"].to_pylist()
    genes = store.feature_names("rna", "human")
    assert (back != cells[names, genes].X).nnz == 0
    print(f"prepare_write: {back.nnz:,} counts are the same", flush=True)


def write(raw: Path, out: Path, **settings) -> dict:
    shutil.rmtree(out, ignore_errors=True)
    before = time.process_time()
    opened = open_counts(raw, "simulated")

    class Source:
        dataset, path, species, data_digest = "simulated", str(raw), "human", "simulated"
        features = {"rna": Features(opened.genes)}  # noqa: RUF012
        labels = opened.obs[["condition"]]

        def __len__(self) -> int:
            return len(opened.cells)

        def names(self, rows):
            return opened.cells[rows].astype(object)

        def chunks(self, wanted=None):
            for rows, counts in opened.chunks(wanted):
                yield Chunk(rows, {"rna": counts})

    names = np.sort(opened.genes)
    ids = np.searchsorted(names, opened.genes).astype(np.int32)
    sets = np.zeros(len(opened.cells), dtype=np.uint8)
    write_store(
        out,
        [SourceToStore(Source(), {"rna": ids}, sets, Filters(), {"rna": ids})],
        CellStore(**settings),
        {},
        vocabularies={"rna": {"human": StoreVocabulary(names, "simulated")}},
    )
    size = sum(file.stat().st_size for file in out.iterdir())
    assert len(names) == NUM_GENES
    return {"cpu": time.process_time() - before, "bytes": size, "num_cells": len(sets)}


def shuffle(raw: Path, out: Path) -> dict:
    before = time.process_time()
    cells = ad.read_h5ad(raw)
    cells[np.random.default_rng(0).permutation(cells.n_obs)].copy().write_h5ad(out)
    return {
        "cpu": time.process_time() - before,
        "bytes": out.stat().st_size,
        "num_cells": cells.n_obs,
        "version": ad.__version__,
    }


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    found = {"write": write, "shuffle": shuffle}[task](*map(Path, paths))
    print(json.dumps(found | {"peak_mb": peak_mb()}))
