import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vcpipe.config.training import EarlyStopping, Optimizer, Scheduler, Training
from vcpipe.data.loading.position_reader import PositionReader
from vcpipe.errors import InputError, Interrupted
from vcpipe.training.distributed import Process
from vcpipe.training.loop import COLUMNS, Settings, train

ALONE = Process(0, 1, torch.device("cpu"))
PROJECT = Path(__file__).parents[2]


class Pairs:
    """Points of a noisy line; the noise is drawn with the batch, as masks and partners are."""

    def __init__(self, num_cells: int = 40, noise: float = 0.1):
        self.noise = noise
        self.x = np.random.default_rng(0).normal(size=(num_cells, 3)).astype(np.float32)
        self.reader = PositionReader(num_cells, {})

    def batch(self, buffer, places, draw):
        x = self.x[buffer.positions[places]]
        noise = draw.generator().normal(scale=self.noise, size=(len(x), 1)).astype(np.float32)
        return {"x": x, "y": x.sum(axis=1, keepdims=True) + noise}


def squared_error(model, batch, generator):
    del generator
    return ((model(batch["x"]) - batch["y"]) ** 2).sum(), len(batch["x"])


def network(dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1))


def settings(**training) -> Settings:
    scheduler = training.pop("scheduler", Scheduler())
    optimizer = training.pop("optimizer", Optimizer(lr=0.01))
    defaults = {"batch_size": 8, "max_epochs": 4, "log_every_n_steps": 1}
    return Settings(optimizer, scheduler, Training(**(defaults | training)))


def run(folder, loss=squared_error, config=None, model=None, cells=None):
    folder.mkdir(parents=True, exist_ok=True)
    return train(
        model or network(),
        loss,
        cells or Pairs(),
        Pairs(8),
        config or settings(),
        ALONE,
        folder,
        say=lambda text: None,
    )


def failing_at(update: int, act):
    """The same loss, but something happens when it is called for the n-th time in training."""
    calls = [0]

    def loss(model, batch, generator):
        if model.training:
            calls[0] += 1
            if calls[0] == update:
                act()
        return squared_error(model, batch, generator)

    return loss


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def crash():
    raise KeyboardInterrupt


@pytest.mark.parametrize("update", [1, 2, 7, 10, 13, 20])
def test_a_run_that_crashed_ends_as_one_that_did_not_bit_for_bit(tmp_path, update):
    config = settings(checkpoint_every_n_steps=3)
    expected, whole = run(tmp_path / "whole", config=config)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "crashed", failing_at(update, crash), config)

    weights, progress = run(tmp_path / "crashed", config=config)

    assert same(weights, expected)
    assert progress == whole
    for name in ("metrics.csv", "best.pt", "last.pt"):
        files = [tmp_path / folder / name for folder in ("whole", "crashed")]
        if name.endswith("csv"):
            assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_the_update_it_arrives_in(tmp_path, number):
    expected, _ = run(tmp_path / "whole")
    stop = failing_at(7, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted, match="after update 8"):
        run(tmp_path / "stopped", stop)

    state = torch.load(tmp_path / "stopped" / "last.pt", weights_only=True)
    assert state["progress"]["update"] == 8
    assert same(run(tmp_path / "stopped")[0], expected)


def test_a_finished_run_is_not_trained_again(tmp_path):
    expected, _ = run(tmp_path)
    weights, _ = run(tmp_path, failing_at(1, crash))
    assert same(weights, expected)


def test_training_learns(tmp_path):
    _, progress = run(tmp_path, config=settings(max_epochs=40), model=network(0.0))
    losses = [row[COLUMNS.index("val_loss")] for row in progress.rows if row[-1] is not None]
    assert losses[-1] < 0.1 * losses[0]


def test_the_best_epochs_weights_are_returned(tmp_path):
    config = settings(max_epochs=6, optimizer=Optimizer(lr=0.9))
    weights, progress = run(tmp_path, config=config)
    losses = [row[COLUMNS.index("val_loss")] for row in progress.rows if row[-1] is not None]
    assert progress.best == min(losses)
    assert progress.best_epoch == losses.index(min(losses))

    judged = network(0.3)
    judged.load_state_dict(weights)
    _, again = run(
        tmp_path / "again",
        config=settings(max_epochs=1, optimizer=Optimizer(lr=1e-12)),
        model=judged,
    )
    assert again.best == pytest.approx(progress.best, rel=1e-5)


def test_patience_counts_epochs_without_a_better_value(tmp_path):
    config = settings(
        max_epochs=50,
        optimizer=Optimizer(lr=1e-12),
        early_stopping=EarlyStopping(monitor="val_loss", patience=3),
    )
    _, progress = run(tmp_path, config=config)
    assert progress.epoch == progress.best_epoch + 1 + 3


def test_accumulated_batches_equal_one_large_batch(tmp_path):
    results = [
        run(
            tmp_path / str(size),
            config=settings(batch_size=size, gradient_accumulation=8 // size),
            model=network(0.0),
            cells=Pairs(noise=0.0),
        )
        for size in (8, 4, 2)
    ]
    for weights, progress in results[1:]:
        assert progress.update == results[0][1].update
        for name, expected in results[0][0].items():
            torch.testing.assert_close(weights[name], expected)


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path):
    def loss(model, batch, generator):
        value, count = squared_error(model, batch, generator)
        return (value * float("nan") if model.training else value), count

    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"Loss is nan .* at update 1 \(lr 1\.0e-02\)"):
        run(tmp_path, loss, model=model)
    assert same(model.state_dict(), before)


def test_an_infinite_gradient_stops_before_the_update(tmp_path):
    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad * float("inf")

    def loss(model, batch, generator):
        value, count = squared_error(model, batch, generator)
        return (Steep.apply(value) if model.training else value), count

    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"gradient norm (nan|inf) at update 1"):
        run(tmp_path, loss, model=model)
    assert same(model.state_dict(), before)
    assert not (tmp_path / "last.pt").exists()


def test_a_validation_loss_that_is_not_finite_is_an_error(tmp_path):
    def loss(model, batch, generator):
        value, count = squared_error(model, batch, generator)
        return (value if model.training else value * float("nan")), count

    with pytest.raises(FloatingPointError, match="val_loss is nan after epoch 1"):
        run(tmp_path, loss)


def test_the_rate_follows_its_schedule(tmp_path):
    config = settings(scheduler=Scheduler(name="step", gamma=0.5, warmup_steps=2))
    _, progress = run(tmp_path, config=config)
    rates = [row[2] for row in progress.rows if row[2] is not None]
    assert rates[:6] == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.01, 0.005])


def test_a_warmup_longer_than_the_run_is_an_error(tmp_path):
    config = settings(scheduler=Scheduler(name="cosine_warmup", warmup_steps=20))
    with pytest.raises(InputError, match="warmup_steps is 20 but the run has 20 updates"):
        run(tmp_path, config=config)


def test_half_precision_on_a_cpu_is_refused(tmp_path):
    with pytest.raises(InputError, match="16-mixed on a CPU"):
        run(tmp_path, config=settings(precision="16-mixed"))


def test_bfloat16_trains_to_nearly_the_same_loss(tmp_path):
    exact = run(tmp_path / "32", config=settings(max_epochs=20), model=network(0.0))[1].best
    half = run(
        tmp_path / "16", config=settings(max_epochs=20, precision="bf16-mixed"), model=network(0.0)
    )[1].best
    assert half == pytest.approx(exact, rel=0.2, abs=0.02)
    assert half != exact


def test_a_run_that_goes_on_with_other_steps_an_epoch_sees_the_rest_of_it_once(tmp_path):
    """As after a restart on another number of GPUs."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, failing_at(8, crash), settings(checkpoint_every_n_steps=7))
    before = torch.load(tmp_path / "last.pt", weights_only=True)["progress"]
    assert (before["epoch"], before["segments"]) == (1, [[1, 8, 256, 2]])
    said = []
    seen = []

    def loss(model, batch, generator):
        if model.training:
            seen.append(len(batch["x"]))
        return squared_error(model, batch, generator)

    config = settings(batch_size=3, max_epochs=2)
    train(network(), loss, Pairs(), Pairs(8), config, ALONE, tmp_path, said.append)
    assert "an epoch has 14 steps now, it had 5" in said[0]
    assert sum(seen) == 40 - 2 * 8


TWO = """
import os, signal, sys, torch
sys.path[:0] = ["{project}", "{project}/workflow"]
import importlib.util
spec = importlib.util.spec_from_file_location("loop_tests", "{project}/tests/training/test_loop.py")
tests = importlib.util.module_from_spec(spec); spec.loader.exec_module(tests)
from pathlib import Path
from vcpipe.training.distributed import joined
from vcpipe.training.loop import train

stop_at, dropout, noise = {stop_at}, {dropout}, {noise}
calls = [0]

def loss(model, batch, generator):
    calls[0] += model.training
    if calls[0] == stop_at and process.rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return tests.squared_error(model, batch, generator)

with joined(0) as process:
    config = tests.settings(batch_size=8 // process.world, max_epochs=3)
    weights, progress = train(tests.network(dropout), loss, tests.Pairs(37, noise),
                              tests.Pairs(9, noise), config, process, Path("{folder}"),
                              say=lambda text: None)
    if process.first:
        torch.save({{"weights": weights, "rows": progress.rows}}, "{folder}/result.pt")
"""


def in_processes(world: int, folder: Path, stop_at: int = -1, dropout=0.0, noise=0.0):
    """Run the program above under torchrun; returns its exit status and what it saved."""
    folder.mkdir(exist_ok=True)
    program = folder / "program.py"
    program.write_text(
        TWO.format(project=PROJECT, folder=folder, stop_at=stop_at, dropout=dropout, noise=noise)
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    done = subprocess.run(
        [sys.executable, *(launcher if world > 1 else []), str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return done.returncode, done.stderr
    return 0, torch.load(folder / "result.pt", weights_only=True)


def test_two_processes_learn_what_one_learns(tmp_path):
    _, one = in_processes(1, tmp_path / "1")
    _, two = in_processes(2, tmp_path / "2")
    for name in one["weights"]:
        torch.testing.assert_close(one["weights"][name], two["weights"][name])
    assert np.allclose(
        np.array(one["rows"], dtype=float), np.array(two["rows"], dtype=float), equal_nan=True
    )


def test_a_signal_to_one_of_two_processes_stops_both_and_they_go_on_exactly(tmp_path):
    settings = {"dropout": 0.3, "noise": 0.1}
    _, whole = in_processes(2, tmp_path / "whole", **settings)
    status, errors = in_processes(2, tmp_path / "stopped", stop_at=7, **settings)
    assert status != 0
    assert "Interrupted: stopped by a signal after update" in errors
    _, resumed = in_processes(2, tmp_path / "stopped", **settings)
    assert same(resumed["weights"], whole["weights"])
    assert resumed["rows"] == whole["rows"]
