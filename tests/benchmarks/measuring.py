"""Run programs that measure themselves, and gather what they say into rows of one table."""

import json
import os
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Row:
    benchmark: str
    ours: float
    peer: float
    unit: str
    ratio: float  # of medians; 1 and more: ours is better
    floor: float | None  # what is asked
    spread: str  # least and greatest ratio of a run of ours and the run of the peer beside it
    peer_version: str


def row(
    benchmark: str,
    ours: list[float],
    peer: list[float],
    unit: str,
    version: str,
    *,
    floor: float | None = None,
) -> Row:
    """One line from repeats that took turns; less is better."""
    ratios = [its / our for our, its in zip(ours, peer, strict=True)]
    our, its = statistics.median(ours), statistics.median(peer)
    spread = f"{min(ratios):.3g} to {max(ratios):.3g}"
    return Row(benchmark, our, its, unit, its / our, floor, spread, version)


def run(*command: str | Path) -> dict:
    """Run a program that prints one line of JSON last."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=PROJECT,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": f"{PROJECT}:{PROJECT}/workflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def checkout_of(variable: str, benchmark: str) -> Path | None:
    """The folder that an environment variable names; none: say that the benchmark is left out."""
    named = os.environ.get(variable)
    if named and Path(named).is_dir():
        return Path(named).absolute()
    found = f"{variable} is {named}, which is no folder" if named else f"{variable} is not set"
    print(f"{benchmark} is left out: {found}; it names a checkout of the peer", flush=True)
    return None


def revision(checkout: Path) -> str:
    """Its commit, in short."""
    command = ("git", "-C", checkout, "rev-parse", "--short", "HEAD")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def beside_scgpt(programs: tuple[str, ...], name: str, *, floor: float) -> list[Row]:
    """CPU time beside the scgpt that SCGPT names; without one the benchmark is left out."""
    scgpt = checkout_of("SCGPT", name)
    if not scgpt:
        return []
    found = run(*programs, name, scgpt)
    return [row(name, found["ours"], found["peer"], "CPU ms", found["version"], floor=floor)]
