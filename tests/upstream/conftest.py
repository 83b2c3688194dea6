"""cell-gears needs older packages than ours, so its part of a test runs in its own Python."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILT = HERE.parents[1] / ".venvs/gears/bin/python"


@pytest.fixture(scope="session")
def run_gears() -> Callable[..., subprocess.CompletedProcess]:
    """Run a program of this folder there: run_gears("rank_gears.py", path), or with input=text."""
    python = Path(os.environ.get("GEARS_PYTHON", BUILT))
    # A path that somebody gave is not to be skipped over.
    if not python.exists() and "GEARS_PYTHON" not in os.environ:
        pytest.skip("make upstream-test-gears builds .venvs/gears")

    def run(program: str, *arguments: str | Path, **settings) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [python, "-W", "ignore", HERE / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            **settings,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run
