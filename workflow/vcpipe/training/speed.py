"""How fast a run is: cells per second, time spent waiting for them, and use of the device (MFU).

MFU is (operations of a forward pass × 3 × steps per second) / (operations per second that the
device's maker promises for the precision, dense). Operations are those of matrix products and
attention, as torch counts them on one batch; a backward pass has twice those of a forward pass.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress

import torch
from torch.utils.flop_counter import FlopCounterMode

from vcpipe.data.loading.loader import Loader
from vcpipe.training.distributed import Process, is_queued

# 10^12 operations per second, from data sheets: two bytes a number, and four.
PEAKS = {
    "H200": (989, 67),
    "H100 PCIe": (756, 51),
    "H100": (989, 67),
    "A100": (312, 19.5),
    "L40S": (362, 91.6),
    "A40": (150, 37.4),
    "V100": (125, 15.7),
}


def peak_of(device: str, precision: str) -> float | None:
    """Operations per second of a device, by its name; None where it is not in the table."""
    known = [rates for name, rates in PEAKS.items() if name in device]
    return 1e12 * known[0][precision == "32"] if known else None


class Speed:
    """Of one process, since it began or since mark() was called."""

    def __init__(self, loader: Loader, process: Process, precision: str):
        self.loader, self.process = loader, process
        self.peak = None
        if is_queued(process):
            self.peak = peak_of(torch.cuda.get_device_name(process.device), precision)
        self.operations: int | None = None  # of a step
        self.steps = 0
        self.mark()

    def count_operations(self, forward: Callable[[], object]) -> None:
        """Once, beside training: counting may change how an operation is done."""
        if self.peak is None or self.operations is not None:
            return
        eagerly = torch.compiler.set_stance("force_eager")
        with torch.no_grad(), eagerly, FlopCounterMode(display=False) as counter:
            forward()
        self.operations = 3 * counter.get_total_flops()

    def mark(self) -> None:
        self.began = time.perf_counter()
        self.before = self.loader.waited, self.loader.cells, self.steps

    def since(self) -> dict[str, float]:
        """seconds, waited, cells_per_second and, of a known device, mfu."""
        seconds = time.perf_counter() - self.began
        waited, cells, steps = self.before
        found = {
            "seconds": seconds,
            "waited": self.loader.waited - waited,
            "cells_per_second": (self.loader.cells - cells) * self.process.world / seconds,
        }
        if self.operations is not None:
            found["mfu"] = self.operations * (self.steps - steps) / seconds / self.peak
        if is_queued(self.process):
            found["memory_gb"] = torch.cuda.max_memory_allocated(self.process.device) / 1e9
        return found


def told(speed: dict[str, float]) -> str:
    parts = [
        f"{speed['cells_per_second']:,.0f} cells/s",
        f"{speed['waited'] / speed['seconds']:.0%} waiting for them",
    ]
    if "mfu" in speed:
        parts.append(f"MFU {speed['mfu']:.0%}")
    if "memory_gb" in speed:
        parts.append(f"{speed['memory_gb']:.1f} GB")
    return ", ".join(parts)


class Bar:
    """A line on a terminal; elsewhere nothing."""

    def __init__(self, num_updates: int, shown: bool):
        self.progress = None
        if not (shown and sys.stderr.isatty()):
            return
        # Part of the main environment; a run does without.
        with suppress(ImportError):
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.progress = Progress(
                TextColumn("update {task.completed:,.0f}/{task.total:,.0f}"),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
                refresh_per_second=2,
            )
            self.task = self.progress.add_task("", total=num_updates)
            self.progress.start()

    def show(self, update: int, text: Callable[[], str]) -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=update, description=text())

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()
