"""Two processes under torchrun: what they share, and what becomes of them when they are stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

# The trials are one run, which the tests below look at.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

PROJECT = Path(__file__).parents[2]
PROGRAM = """
import sys, torch
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


def crash():
    raise Crashed


folder = Path(sys.argv[1])
with joined(0) as process:
    {act}
"""


TRIALS = PROJECT / "tests/training/trials.py"
STOPPED = 75  # what a process of it that was interrupted ends with
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
TOGETHER = ("--standalone", "--nproc-per-node=2")


def run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*TORCHRUN, *TOGETHER, program, *arguments],
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


def test_divided_weights_learn_what_shared_ones_learn_and_take_over_from_them(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(project=PROJECT, act=FSDP.strip()))
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr
    expected, rows = result(tmp_path / "ddp")
    for name in ("fsdp", "fsdp_on", "ddp_on"):
        weights, its = result(tmp_path / name)
        np.testing.assert_allclose(its, rows, rtol=1e-6, atol=1e-6)
        for key in expected:
            np.testing.assert_allclose(weights[key], expected[key], rtol=0, atol=1e-6)


def trial(folder: str, dropout: float, how: str | None = None, **where: int) -> dict:
    return {"folder": folder, "dropout": dropout, "how": how, "world": 2, **where}


def free_ports(number: int) -> list[int]:
    held = [socket.socket() for _ in range(number)]
    for each in held:
        each.bind(("localhost", 0))
    found = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return found


@pytest.fixture(scope="module")
def drawn() -> dict[str, int]:
    """Updates, and who is stopped: others in each run of these tests."""
    generator = np.random.default_rng()
    # Of 20 updates, each after what the one before it has left.
    updates = np.sort(generator.choice(np.arange(1, 9), 4, replace=False)) + 3 * np.arange(4)
    names = ("killed", "stopped", "signalled", "killed_again", "fewer", "more", "told", "dies")
    found = dict(zip(names, [*updates, *generator.integers(1, 16, 4)], strict=True))
    found["rank"] = generator.integers(2)
    return {name: int(number) for name, number in found.items()}


@pytest.fixture(scope="module")
def trials(drawn) -> list[dict]:
    """What is tried in one run of torchrun."""
    stop = {name: {"update": at, "rank": drawn["rank"]} for name, at in drawn.items()}
    plan = [
        trial("whole", 0.1),
        trial("stopped", 0.1, "SIGKILL", **stop["killed"]),
        trial("stopped", 0.1, "SIGTERM", **stop["stopped"]),
        trial("stopped", 0.1, "SLURM_JOB_END_TIME"),
        trial("stopped", 0.1, "SIGUSR1", **stop["signalled"]),
        trial("stopped", 0.1, "SIGKILL", **stop["killed_again"]),
        trial("stopped", 0.1),
        # What is dropped is named by the process, of which there are then others.
        trial("plain", 0.0),
        trial("fewer", 0.0, "SIGKILL", **stop["fewer"]),
        trial("fewer", 0.0, world=1),
        trial("more", 0.0, "SIGKILL", update=drawn["more"], rank=0, world=1),
        trial("more", 0.0),
    ]
    ports = free_ports(len(plan))
    return [its | {"port": port} for its, port in zip(plan, ports, strict=True)]


@pytest.fixture(scope="module")
def tried(drawn, trials, tmp_path_factory) -> Path:
    """The folder of all trials; in the end torchrun itself is told to stop, and stops."""
    folder = tmp_path_factory.mktemp("trials")
    told = {"folder": "told", "dropout": 0.1, "update": drawn["told"]}
    done = run(TRIALS, folder, json.dumps({"trials": trials, "told": told}))
    print(done.stderr)
    assert done.returncode != 0
    assert (folder / "told" / "last.pt").exists()
    assert not (folder / "told" / "result.pt").exists()
    return folder


def test_processes_that_are_stopped_end_together_and_say_that_they_are_not_done(
    tried, trials, drawn
):
    codes = [json.loads((tried / f"codes-{rank}.json").read_text()) for rank in range(2)]
    for number, its in enumerate(trials):
        found = {rank: codes[rank][number] for rank in range(its["world"])}
        if its["how"] == "SIGKILL":
            assert found.pop(its["rank"]) == -signal.SIGKILL, (its, drawn)
            # The other one has lost it, and fails.
            assert set(found.values()) <= {1}, (its, drawn)
        else:
            assert set(found.values()) == {STOPPED if its["how"] else 0}, (its, drawn)


def test_a_run_that_was_stopped_again_and_again_is_one_that_was_not_bit_for_bit(tried, drawn):
    weights, rows = result(tried / "stopped")
    expected, all_rows = result(tried / "whole")
    np.testing.assert_array_equal(rows, all_rows, err_msg=str(drawn))
    assert all(torch.equal(weights[name], expected[name]) for name in expected), drawn


@pytest.mark.parametrize("folder", ["fewer", "more"])
def test_other_numbers_of_processes_go_on_with_what_the_cells_of_all_teach(tried, drawn, folder):
    """Cells that are compared are those of all processes, so two learn what one learns."""
    weights, rows = result(tried / folder)
    expected, all_rows = result(tried / "plain")
    np.testing.assert_allclose(rows, all_rows, rtol=1e-6, atol=1e-6, err_msg=str(drawn))
    for name in expected:
        # What is added to all keys changes no attention: Adam makes steps of what is rounded off.
        if name.endswith("in_proj_bias"):
            continue
        np.testing.assert_allclose(
            weights[name], expected[name], rtol=0, atol=1e-6, err_msg=str(drawn)
        )


def test_two_nodes_go_on_as_two_processes_of_one_node_and_end_when_one_dies(tried, drawn):
    (port,) = free_ports(1)
    rendezvous = ("--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=trials")
    dies = {"folder": "dies", "dropout": 0.1, "update": drawn["dies"], "rank": 1}
    plan = {"trials": [], "finished": {"folder": "told", "dropout": 0.1}, "dies": dies}
    nodes = [
        subprocess.Popen(
            [
                *(*TORCHRUN, "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1"),
                *(*rendezvous, "--local-addr=localhost", TRIALS, tried, json.dumps(plan)),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for node in range(2)
    ]
    codes = [node.wait() for node in nodes]
    ended = time.time()
    assert 0 not in codes
    assert (tried / "died").exists()
    assert ended - float((tried / "died").read_text()) < 60, drawn
    assert not (tried / "dies" / "result.pt").exists()

    weights, rows = result(tried / "told")
    expected, all_rows = result(tried / "whole")
    np.testing.assert_array_equal(rows, all_rows, err_msg=str(drawn))
    assert all(torch.equal(weights[name], expected[name]) for name in expected), drawn
