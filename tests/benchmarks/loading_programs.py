"""Programs that load cells and measure themselves, ours and our peers', as JSON.

    python -m tests.benchmarks.loading_programs make FOLDER NUM_CELLS
    python -m tests.benchmarks.loading_programs PROGRAM FOLDER [name=value ...]

Time begins when a first pass has compiled the loops; seconds=S stops a pass after so long, cold=1
drops the files' pages first.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

BATCH = 64
FETCH_FACTOR = 256
SECONDS = 4.0


def make(folder: Path, num_cells: int) -> dict:
    """One h5ad, and the store of its cells."""
    from tests.benchmarks import simulated_cells
    from tests.benchmarks.preparation_store import write

    simulated_cells.DETECTED = 1515
    folder.mkdir(parents=True, exist_ok=True)
    per_cell = simulated_cells.write_cells(folder / "cells.h5ad", num_cells)
    write(folder / "cells.h5ad", folder / "store")
    return {"per_cell": per_cell}


def ours(folder: Path, threads: int = 2, tokens: str = "", back_end: str = "store", **loading):
    """Batches of rows, or of tokens, of a whole epoch; each with its number of cells."""
    from vcpipe.config.loading import Loading
    from vcpipe.data.loading.loader import Loader
    from vcpipe.data.loading.plans import Share

    reader = reader_of(folder, back_end)
    batches = token_batches(reader, tokens) if tokens else RawBatches(reader)
    loader = Loader(batches, Loading(**loading), Share(), 0, threads)
    epochs = iter(range(1000))

    def epoch() -> Iterator[int]:
        for batch in loader.steps(next(epochs)):
            yield len(batch["starts"]) - 1

    return epoch


class RawBatches:
    def __init__(self, reader):
        self.reader = reader

    def batch(self, buffer, places, draw):
        rows = buffer.rows(places)
        return {"starts": rows.starts, "ids": rows.ids, "counts": rows.counts}


def token_batches(reader, strategy: str):
    """The 1,000 genes of most counts of each cell, ties drawn, packed without gaps."""
    from vcpipe.config.fitting import Fit
    from vcpipe.config.tokens import Tokenizer
    from vcpipe.data.draws import Draw
    from vcpipe.data.tokens.collate import collate
    from vcpipe.data.tokens.fitted import Fitted
    from vcpipe.data.tokens.packing import Specials
    from vcpipe.data.tokens.tokenize import recipe_of

    special = Specials(0, 1, -1, 0.0, 0.0, -1.0)
    recipe = recipe_of(Tokenizer(strategy=strategy, max_genes=1001), Fitted(Fit()))

    class TokenBatches(RawBatches):
        def batch(self, buffer, places, draw):
            cells, chosen = buffer.cells(places)
            keys = cells.keys[chosen]
            named = Draw(draw.seed, draw.epoch)
            its = collate(cells, chosen, keys, recipe, special, named)
            return {"starts": its.starts, "genes": its.genes, "values": its.values}

    return TokenBatches(reader)


def reader_of(folder: Path, back_end: str):
    if back_end == "store":
        from vcpipe.data.cell_store.reading import open_store
        from vcpipe.data.loading.store_reader import StoreReader

        return StoreReader(open_store(folder / "store"))
    if back_end == "zarr":
        from vcpipe.data.loading.zarr_reader import ZarrReader

        return ZarrReader(folder / "cells.zarr")
    from vcpipe.data.loading.h5ad_reader import H5adReader

    return H5adReader([folder / "cells.h5ad"])


def scdataset(folder: Path, block_size: int = 1, fetch_factor: int = FETCH_FACTOR):
    """Its fastest way: rows of the sparse matrix on disk, as a sparse matrix."""
    import anndata as ad
    from scdataset import scDataset
    from scdataset.strategy import BlockShuffling

    counts = ad.read_h5ad(folder / "cells.h5ad", backed="r").X
    cells = scDataset(
        Sized(counts), BlockShuffling(block_size), BATCH, fetch_factor, rank=0, world_size=1, seed=0
    )

    def epoch() -> Iterator[int]:
        for batch in cells:
            yield batch.shape[0]

    return epoch


class Sized:
    """Its strategies ask for len, which a sparse matrix on disk refuses."""

    def __init__(self, counts):
        self.counts = counts

    def __len__(self) -> int:
        return self.counts.shape[0]

    def __getitem__(self, rows):
        return self.counts[rows]


def annloader(folder: Path):
    """anndata's own, at random."""
    import anndata as ad
    from anndata.experimental import AnnCollection, AnnLoader

    cells = AnnCollection([ad.read_h5ad(folder / "cells.h5ad", backed="r")], join_vars="inner")
    loader = AnnLoader(cells, batch_size=BATCH, shuffle=True)

    def epoch() -> Iterator[int]:
        for batch in loader:
            yield batch.X.shape[0]

    return epoch


def measured(make_epoch: Callable, folder: Path, seconds: float, cold: int) -> dict:
    """Cells per second of wall and of processor time, the first batch, and memory."""
    began = time.perf_counter()
    epoch = make_epoch()
    next(iter(epoch()))
    first = time.perf_counter() - began
    run_for(epoch, min(seconds, 1.0))
    if cold:
        drop_pages(folder)
    read = num_read()
    wall, processor = time.perf_counter(), time.process_time()
    # A second epoch would find in memory what the first has read.
    cells = run_for(epoch, seconds, 1 if cold else None)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {
        "cells": cells,
        "wall": wall / cells,
        "cpu": processor / cells,
        "first_batch": first,
        "anonymous_mb": memory_mb("RssAnon"),
        "peak_mb": memory_mb("VmHWM"),
        "read_per_cell": (num_read() - read) / cells,
    }


def run_for(epoch: Callable, seconds: float, most_epochs: int | None = None) -> int:
    """Epochs, one after the other, until the time is over."""
    cells, end = 0, time.perf_counter() + seconds
    for _ in range(most_epochs) if most_epochs else itertools.count():
        for size in epoch():
            cells += size
            if time.perf_counter() > end:
                return cells
    return cells


def drop_pages(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def num_read() -> int:
    """Bytes that this process has had read from disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def memory_mb(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def large_store(folder: Path, num_cells: int = 100_000_000) -> dict:
    """A store of as many cells whose blocks all lie in the shards of a small one."""
    from vcpipe.data.cell_store.layout import INDEX, MANIFEST
    from vcpipe.data.cell_store.verification import digests_of

    small, large = folder / "store", folder / "large_store"
    large.mkdir(exist_ok=True)
    for path in small.iterdir():
        target = large / path.name
        target.unlink(missing_ok=True)
        if path.name not in (MANIFEST, "index_rna.npy"):
            os.link(path, target)
    manifest = json.loads((small / MANIFEST).read_text())
    index = np.load(small / "index_rna.npy")[:-1]
    size = manifest["block_size"]
    num_blocks = -(-num_cells // size)
    np.save(large / "index_rna.npy", np.resize(index, num_blocks).astype(INDEX))
    manifest["num_cells"] = num_blocks * size
    manifest["runs"] = [
        {"name": "train", "start": 0, "stop": num_blocks * size, "first_block": 0},
        *(
            {"name": name, "start": num_blocks * size, "stop": num_blocks * size, "first_block": n}
            for name, n in (("val", num_blocks), ("test", num_blocks))
        ),
    ]
    manifest["files"]["index_rna.npy"]["bytes"] = (large / "index_rna.npy").stat().st_size
    manifest |= digests_of(manifest)
    (large / MANIFEST).write_text(json.dumps(manifest))
    return {"blocks": num_blocks, "index_bytes": manifest["files"]["index_rna.npy"]["bytes"]}


def start_of_large_store(folder: Path) -> dict:
    """Seconds to open it, to begin an epoch, to its first batch, and memory for that."""
    from vcpipe.config.loading import Loading
    from vcpipe.data.cell_store.reading import open_store
    from vcpipe.data.loading.loader import Loader
    from vcpipe.data.loading.plans import Share
    from vcpipe.data.loading.store_reader import StoreReader

    next(iter(ours(folder)()))  # compiled
    before = memory_mb("RssAnon")
    began = time.perf_counter()
    store = open_store(folder / "large_store")
    opened = time.perf_counter()
    loader = Loader(RawBatches(StoreReader(store)), Loading(), Share(3, 8), 0, 2)
    plan = loader.plan(1)
    planned = time.perf_counter()
    held = memory_mb("RssAnon") - before
    steps = loader.steps(1)
    next(steps)
    first = time.perf_counter()
    steps.close()
    return {
        "cells": len(store),
        "open": opened - began,
        "epoch": planned - opened,
        "first_batch": first - began,
        "index_mb": held,
        "steps": plan.num_steps,
    }


PROGRAMS = {"ours": ours, "scdataset": scdataset, "annloader": annloader}


def main() -> None:
    program, folder, *given = sys.argv[1:]
    settings = dict(each.split("=", 1) for each in given)
    if program == "make":
        found = make(Path(folder), int(settings["cells"]))
    elif program == "large":
        found = large_store(Path(folder)) | start_of_large_store(Path(folder))
    else:
        seconds = float(settings.pop("seconds", SECONDS))
        cold = int(settings.pop("cold", 0))
        numbers = {
            name: int(value) if value.isdigit() else value for name, value in settings.items()
        }
        if "weight_by" in numbers:
            numbers["weight_by"] = [numbers["weight_by"]]
        found = measured(
            lambda: PROGRAMS[program](Path(folder), **numbers), Path(folder), seconds, cold
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
