"""The whole Virtual Cell Challenge, synthetic: 221,273 × 18,080, converted once for real."""

import sys
import time
from pathlib import Path

from tests.benchmarks.measuring import Row, run
from tests.benchmarks.screens import write_screen

NUM_CELLS = 221_273
SMALL = 20_000


def full_size(folder: Path) -> list[Row]:
    """CPU of the full size, beside that of 20,000 cells times the ratio of their numbers."""
    cpu, peak = {}, {}
    for num_cells in (SMALL, NUM_CELLS):
        raw, made = folder / f"raw_{num_cells}.h5ad", folder / f"made_{num_cells}"
        if not raw.exists():
            write_screen(raw, num_cells)
        began = time.perf_counter()
        found = run(sys.executable, "-m", "tests.benchmarks.our_conversion", "convert", raw, made)
        wall = time.perf_counter() - began
        started = run(sys.executable, "-m", "tests.benchmarks.our_conversion", "start", made)
        size = raw.stat().st_size / 1e6
        print(
            f"{num_cells} cells, {size:,.0f} MB: {found['cpu'] / 60:.2f} CPU min, "
            f"{size / wall:.0f} MB/s, {wall:.0f} s, peak {found['peak_mb']:.0f} MB; later start: "
            f"{started['cpu']:.2f} CPU s, peak {started['peak_mb']:.0f} MB",
            flush=True,
        )
        cpu[num_cells], peak[num_cells] = found["cpu"], found["peak_mb"]
    linear = cpu[SMALL] * NUM_CELLS / SMALL
    ratio = linear / cpu[NUM_CELLS]
    # Within 15 % of linear growth; less than linear is no fault.
    return [
        Row(
            *("full_size", cpu[NUM_CELLS], linear, "CPU s", ratio, 1 / 1.15),
            *(f"{ratio:.3g}", "our 20,000 cells, scaled"),
        )
    ]
