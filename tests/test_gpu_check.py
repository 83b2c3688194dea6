"""The script of make gpu-check, so that a day with a GPU does not begin with mending it."""

import os
import subprocess
import sys

import pytest

from tests.benchmarks.measuring import ONE_THREAD, PROJECT

# The machine that it is meant for may lack it.
PROGRAM = """
import runpy, sys
sys.modules["anndata"] = None
sys.argv[1:] = ["--device", "cpu", "--small"]
runpy.run_module("tests.benchmarks.gpu", run_name="__main__")
"""
TABLES = ("attention, bf16, 2 x 24", "attention, bf16, 4 cells", "threads of the loader", "model")


@pytest.mark.slow
def test_the_gpu_check_goes_through_all_of_its_parts_and_prints_their_tables():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=os.environ | ONE_THREAD | {"PYTHONPATH": f"{PROJECT}:{PROJECT}/workflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [title for title in TABLES if f"| {title} |" not in done.stdout] == []
    rows = [line for line in done.stdout.splitlines() if line.startswith("| eager |")]
    # Masked values of deep and of shallow cells, and peaks.
    assert len(rows) == 3
