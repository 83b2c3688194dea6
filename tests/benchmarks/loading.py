"""Loading beside scDataset and anndata's AnnLoader, on one h5ad and the store of its cells.

All run in our own Python, each in a process of its own, in turns. Cells per second of two cores are
printed too, with what was read from disk: warm, the files are in the system's cache; cold, their
pages were dropped first (posix_fadvise), and a pass is as long as an epoch at most, because reading
ahead warms them.
"""

import shutil
import statistics
import sys
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.measuring import Row, row, run

PROGRAM = (sys.executable, "-W", "ignore", "-m", "tests.benchmarks.loading_programs")
NUM_CELLS = 60_000
CPU, WALL = "CPU µs per cell", "µs per cell, two threads"
# Batches × block sizes of scDataset's own table; the better one is compared with.
BLOCKS = (16, 64)


def loading(folder: Path, repeats: int = 5) -> list[Row]:
    """load_random, load_block, load_cold, load_tokens, load_memory, load_threads, load_start."""
    cells = folder / "loading"
    made = run(*PROGRAM, "make", cells, f"cells={NUM_CELLS}")
    print(f"{NUM_CELLS:,} cells of {made['per_cell']:.0f} detected genes", flush=True)
    programs = {
        "ours": ("ours", "threads=2"),
        "ours, one thread": ("ours", "threads=1"),
        "ours, tokens": ("ours", "threads=2", "tokens=rank_value"),
        "scDataset, random": ("scdataset", "block_size=1"),
        **{f"scDataset, blocks of {b}": ("scdataset", f"block_size={b}") for b in BLOCKS},
        "AnnLoader, random": ("annloader",),
    }
    cold = {f"{name}, cold": (*its, "cold=1") for name, its in programs.items()}
    for name in ("ours, one thread, cold", "AnnLoader, random, cold"):
        del cold[name]
    for its in (("ours", "threads=2"), ("ours", "threads=2", "tokens=rank_value")):
        run(*PROGRAM, its[0], cells, *its[1:])  # compiles
    found = {name: [] for name in programs | cold}
    for _ in range(repeats):
        for name, (program, *settings) in (programs | cold).items():
            found[name].append(run(*PROGRAM, program, cells, *settings))
    for name, its in found.items():
        print(told(name, its), flush=True)
    large = run(*PROGRAM, "large", cells)
    print(
        f"{large['cells']:,} cells: opened in {large['open']:.3f} s, epoch begun in "
        f"{large['epoch']:.3f} s, first batch after {large['first_batch']:.2f} s, index "
        f"{large['index_bytes'] / 1e6:.1f} MB on disk, {large['index_mb']:.1f} MB in memory"
    )
    shutil.rmtree(cells)
    return rows_of(found)


def rows_of(found: dict[str, list[dict]]) -> list[Row]:
    scdataset, annloader = (f"{name} {version(name)}" for name in ("scdataset", "anndata"))

    def times(name: str, key: str = "cpu") -> list[float]:
        return [1e6 * its[key] for its in found[name]]

    def best(suffix: str, key: str) -> list[float]:
        names = [f"scDataset, blocks of {block}{suffix}" for block in BLOCKS]
        return min((times(name, key) for name in names), key=statistics.median)

    ours, random = "ours", "scDataset, random"
    peaks = [[its["peak_mb"] for its in found[name]] for name in (ours, random)]
    return [
        row("load_random", times(ours), times(random), CPU, scdataset, floor=3),
        row("load_block", times(ours), best("", "cpu"), CPU, scdataset, floor=1.5),
        row("load_annloader", times(ours), times("AnnLoader, random"), CPU, annloader),
        row(
            "load_random_cold",
            *(times(f"{name}, cold", "wall") for name in (ours, random)),
            WALL,
            scdataset,
            floor=3,
        ),
        row(
            "load_block_cold",
            times("ours, cold", "wall"),
            best(", cold", "wall"),
            WALL,
            scdataset,
            floor=3,
        ),
        # Cells per second of two cores, beside what is asked.
        *(
            row(
                name,
                times(which, "wall"),
                [1e6 / asked] * len(found[which]),
                WALL,
                f"asked: {asked:,} cells/s",
                floor=1,
            )
            for name, which, asked in (
                ("load_tokens", "ours, tokens", 30_000),
                ("load_tokens_cold", "ours, tokens, cold", 20_000),
            )
        ),
        row("load_memory", peaks[0], peaks[1], "MB", scdataset),
        row(
            "load_threads",
            times(ours, "wall"),
            times("ours, one thread", "wall"),
            "µs per cell",
            "ours with one thread",
            floor=1.6,
        ),
    ]


def told(name: str, its: list[dict]) -> str:
    def middle(key: str) -> float:
        return statistics.median(each[key] for each in its)

    return (
        f"{name}: {1 / middle('wall'):,.0f} cells/s, {1 / middle('cpu'):,.0f} per CPU second, "
        f"{middle('read_per_cell'):,.0f} bytes read per cell, first batch after "
        f"{middle('first_batch'):.2f} s with imports, {middle('anonymous_mb'):.0f} MB anonymous, "
        f"{middle('peak_mb'):.0f} MB at most"
    )
