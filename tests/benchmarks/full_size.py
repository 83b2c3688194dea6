"""The whole Virtual Cell Challenge, synthetic: 221,273 × 18,080, converted once for real."""

import os
import shutil
import statistics
import sys
import time
from pathlib import Path

from tests.benchmarks.measuring import Row, run
from tests.benchmarks.screens import write_screen

NUM_CELLS = 221_273
SMALL = 20_000


def full_size(folder: Path) -> list[Row]:
    """CPU of the full size, beside that of 20,000 cells times the ratio of their numbers."""
    small = [converted(folder, SMALL)["cpu"] for _ in range(3)]
    full = converted(folder, NUM_CELLS)
    made = folder / f"made_{NUM_CELLS}"
    started = run(sys.executable, "-m", "tests.benchmarks.our_conversion", "start", made)
    print(f"later start: {started['cpu']:.2f} CPU s, peak {started['peak_mb']:.0f} MB", flush=True)
    linear = statistics.median(small) * NUM_CELLS / SMALL
    ratios = [its * NUM_CELLS / SMALL / full["cpu"] for its in small]
    return [
        Row(
            benchmark="full_size",
            ours=full["cpu"],
            peer=linear,
            unit="CPU s",
            ratio=linear / full["cpu"],
            floor=1 / 1.15,
            spread=f"{min(ratios):.3g} to {max(ratios):.3g}",
            peer_version=f"ours at {SMALL:,} cells, scaled",
        )
    ]


def converted(folder: Path, num_cells: int) -> dict:
    raw, made = folder / f"raw_{num_cells}.h5ad", folder / f"made_{num_cells}"
    if not raw.exists():
        write_screen(raw, num_cells)
    shutil.rmtree(made, ignore_errors=True)
    # 15 GB come from the disk, so the small one must too.
    with raw.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    found = run(sys.executable, "-m", "tests.benchmarks.our_conversion", "convert", raw, made)
    wall = time.perf_counter() - began
    size = raw.stat().st_size / 1e6
    print(
        f"{num_cells} cells, {size:,.0f} MB: {found['cpu'] / 60:.2f} CPU min, {wall:.0f} s, "
        f"{size / wall:.0f} MB/s, peak {found['peak_mb']:.0f} MB",
        flush=True,
    )
    return found
