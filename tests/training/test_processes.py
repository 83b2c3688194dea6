"""Two processes under torchrun: what they share, and one of them that is killed."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

PROJECT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys, torch
sys.path[:0] = ["{project}", "{project}/workflow"]
from pathlib import Path
from torch import nn
from tests.training.test_loop import Pairs, settings, squared_error
from vcpipe.training.distributed import joined
from vcpipe.training.loop import train


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.last = nn.Linear(8, 1)

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return self.last(x)


class Crashed(Exception):
    pass


def fit(folder, act=lambda: None, at=-1, **training):
    calls = [0]

    def loss(model, batch, generator):
        calls[0] += model.training
        if model.training and calls[0] == at:
            act()
        return squared_error(model, batch, generator)

    folder.mkdir(parents=True, exist_ok=True)
    config = settings(**(dict(batch_size=8 // process.world, max_epochs=3,
                              checkpoint_every_n_steps=1) | training))
    cells = Pairs(37, 0.0), Pairs(9, 0.0)
    weights, progress = train(Layers(), loss, *cells, config, process, folder, lambda text: None)
    if process.first:
        torch.save(dict(weights=weights, rows=progress.rows), folder / "result.pt")


def kill():
    if process.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def crash():
    raise Crashed


folder = Path(sys.argv[1])
with joined(0) as process:
    {act}
"""


def run(folder: Path, act: str, world: int = 2) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    program = folder / "program.py"
    program.write_text(PROGRAM.format(project=PROJECT, act=act))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    command = [sys.executable, *(launcher if world > 1 else []), program, folder]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def result(folder: Path) -> tuple[dict, np.ndarray]:
    found = torch.load(folder / "result.pt", weights_only=True)
    return found["weights"], np.array(found["rows"], dtype=float)


FSDP = """
    common = dict(gradient_accumulation=2, gradient_clip=0.5)
    fit(folder / "ddp", strategy="ddp", **common)
    fit(folder / "fsdp", strategy="fsdp", **common)
    for strategy in ("ddp", "fsdp"):
        other = "fsdp" if strategy == "ddp" else "ddp"
        try:
            fit(folder / f"{other}_on", crash, 6, strategy=strategy, **common)
        except Crashed:
            pass
        fit(folder / f"{other}_on", strategy=other, **common)
"""


@pytest.mark.slow
def test_divided_weights_learn_what_shared_ones_learn_and_take_over_from_them(tmp_path):
    done = run(tmp_path, FSDP.strip())
    assert done.returncode == 0, done.stderr
    expected, rows = result(tmp_path / "ddp")
    for name in ("fsdp", "fsdp_on", "ddp_on"):
        weights, its = result(tmp_path / name)
        np.testing.assert_allclose(its, rows, rtol=1e-6, atol=1e-6)
        for key in expected:
            np.testing.assert_allclose(weights[key], expected[key], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_when_one_process_is_killed_all_stop_and_they_go_on_exactly(tmp_path):
    """At an update that is another in each run of this test."""
    update = int(np.random.default_rng(time.time_ns()).integers(2, 15))
    began = time.monotonic()
    done = run(tmp_path, f"fit(folder / 'killed', kill, {update})")
    assert done.returncode != 0
    assert time.monotonic() - began < 60
    assert not (tmp_path / "killed" / "result.pt").exists()

    shutil.copytree(tmp_path / "killed", tmp_path / "alone")

    done = run(tmp_path, "fit(folder / 'killed'); fit(folder / 'whole')")
    assert done.returncode == 0, done.stderr
    weights, rows = result(tmp_path / "killed")
    expected, all_rows = result(tmp_path / "whole")
    np.testing.assert_array_equal(rows, all_rows, err_msg=f"killed at update {update}")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)

    done = run(tmp_path, "fit(folder / 'alone')", world=1)
    assert done.returncode == 0, done.stderr
    weights, rows = result(tmp_path / "alone")
    np.testing.assert_allclose(rows, all_rows, rtol=1e-6, atol=1e-6)
    for name in expected:
        np.testing.assert_allclose(weights[name], expected[name], rtol=0, atol=1e-6)
