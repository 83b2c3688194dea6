"""What a piece of work takes of a machine: time, CPU, memory, and bytes that are read."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/self")
WARMING = 2**24  # bytes that are read at a time


@dataclass
class Consumption:
    """Of a process with all its threads; None where the system does not say (no /proc)."""

    seconds: float
    cpu_seconds: float
    peak_memory_mb: float | None
    bytes_read: int | None  # from files, cached ones included
    disk_bytes_read: int | None  # those that were not cached


class Meter:
    """Adds up what is taken between start() and pause(), as often as these are called."""

    def __init__(self):
        self.is_running = False
        self.seconds = self.cpu_seconds = 0.0
        self.read = [0, 0]
        self.peak = None
        self.knows_peak = _forget_peak()
        self.knows_read = _bytes_read() is not None

    def start(self) -> None:
        if self.is_running:
            return
        self.is_running = True
        self.began = time.perf_counter(), time.process_time(), _bytes_read()

    def pause(self) -> None:
        if not self.is_running:
            return
        self.is_running = False
        clock, cpu, read = self.began
        self.seconds += time.perf_counter() - clock
        self.cpu_seconds += time.process_time() - cpu
        if self.knows_read:
            now = zip(self.read, read, _bytes_read(), strict=True)
            self.read = [known + after - before for known, before, after in now]
        if self.knows_peak:
            self.peak = _peak_memory()

    def consumption(self) -> Consumption:
        assert not self.is_running
        read = self.read if self.knows_read else (None, None)
        return Consumption(self.seconds, self.cpu_seconds, self.peak, *read)


def _forget_peak() -> bool:
    """Let the kernel count the peak of memory anew; whether it does."""
    try:
        (PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_memory() -> float | None:
    for line in (PROC / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


def _bytes_read() -> tuple[int, int] | None:
    try:
        lines = (PROC / "io").read_text().splitlines()
    except OSError:
        return None
    numbers = {name: int(number) for name, number in (line.split(": ") for line in lines)}
    return numbers["rchar"], numbers["read_bytes"]


def files_under(paths: Iterable[Path]) -> list[Path]:
    """Files, and all files of folders, by name."""
    found = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [file for file in inside if file.is_file()]
    return found


def forget_files(paths: Iterable[Path]) -> bool:
    """Ask the system to drop its copies of files from memory; whether it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in files_under(paths):
        with path.open("rb") as handle:
            # What has not reached the disk yet is not dropped.
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def read_once(paths: Iterable[Path]) -> None:
    """Bring files into the system's memory, as far as it has room."""
    for path in files_under(paths):
        with path.open("rb") as handle:
            while handle.read(WARMING):
                pass
