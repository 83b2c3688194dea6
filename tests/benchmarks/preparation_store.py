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

from tests.benchmarks.measuring import Row, row, run
from tests.benchmarks.our_conversion import peak_mb
from tests.benchmarks.simulated_cells import NUM_GENES, write_cells
from vcpipe.config.cell_store import CellStore
from vcpipe.config.fitting import Filters
from vcpipe.data.cell_store.scattering import SourceToStore, StoreVocabulary
from vcpipe.data.cell_store.writing import write_store
from vcpipe.data.counts import open_counts
from vcpipe.data.sources.source import Chunk, Features

CELLS_PER_CPU_SECOND = 5_000
PEAK_MB = 1_000
BYTES_PER_CELL = 2_500


def preparation_store(folder: Path, num_cells: int = 20_000, repeats: int = 3) -> list[Row]:
    """Both on the same file in turns; ours once more on ten times as many cells."""
    raw, large = folder / "cells.h5ad", folder / "many_cells.h5ad"
    print(f"{write_cells(raw, num_cells):.0f} entries per cell", flush=True)
    here = (sys.executable, "-m", "tests.benchmarks.preparation_store")
    # The first run compiles the loops, which a user waits for once.
    run(*here, "write", raw, folder / "ours")
    ours, peers = [], []
    for _ in range(repeats):
        ours.append(run(*here, "write", raw, folder / "ours"))
        peers.append(run(*here, "shuffle", raw, folder / "peer.h5ad"))
        print(f"ours {ours[-1]}, anndata {peers[-1]}", flush=True)
    write_cells(large, 10 * num_cells)
    many = run(*here, "write", large, folder / "ours")
    print(f"ours, {10 * num_cells} cells: {many}", flush=True)
    large.unlink()
    for found, name in ((ours[-1], "20k"), (many, "200k")):
        speed = found["num_cells"] / found["cpu"]
        print(f"{name}: {speed:,.0f} cells per CPU second, {found['peak_mb']:.0f} MB")
        assert speed >= CELLS_PER_CPU_SECOND, speed
        assert found["peak_mb"] < PEAK_MB, found["peak_mb"]
    assert ours[-1]["bytes"] / num_cells <= BYTES_PER_CELL

    def figures(found: list[dict], key: str, share: float = 1.0) -> list[float]:
        return [each[key] * share for each in found]

    version = f"anndata {peers[-1]['version']}"
    size = 1 / num_cells
    return [
        row("prepare_write", figures(ours, "cpu"), figures(peers, "cpu"), "CPU s", version),
        row(
            "prepare_write_memory",
            figures(ours, "peak_mb"),
            figures(peers, "peak_mb"),
            "MB",
            version,
        ),
        row(
            "prepare_write_size",
            figures(ours, "bytes", size),
            figures(peers, "bytes", size),
            "bytes per cell",
            version,
            floor=19_500 / BYTES_PER_CELL,
        ),
    ]


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
