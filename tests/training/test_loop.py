import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vcpipe.config.training import EarlyStopping, Optimizer, Scheduler, Training
from vcpipe.data.loading.position_reader import PositionReader
from vcpipe.errors import InputError, Interrupted
from vcpipe.training.checkpointing import read_whole
from vcpipe.training.distributed import Process
from vcpipe.training.loop import Settings, _Run, train
from vcpipe.training.progress import COLUMNS

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
    tables = [tmp_path / folder / "metrics.csv" for folder in ("whole", "crashed")]
    assert tables[0].read_bytes() == tables[1].read_bytes()


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


def test_the_rate_of_every_schedule_is_in_the_rows(tmp_path):
    config = settings(scheduler=Scheduler(name="linear", total_steps=10, min_lr=0.001))
    _, progress = run(tmp_path, config=config)
    rates = [row[2] for row in progress.rows if row[2] is not None]
    assert rates[0] == 0.01
    assert rates[5] == pytest.approx(0.0055)
    assert rates[10:] == [0.001] * 10


def test_automatic_precision_is_32_on_a_cpu_and_told(tmp_path):
    said = []
    config = settings(precision="auto", max_epochs=1)
    train(
        network(),
        squared_error,
        Pairs(),
        None,
        with_train_loss(config),
        ALONE,
        tmp_path,
        said.append,
    )
    assert said[0] == "8 cells an update, precision 32"


def test_half_precision_on_a_cpu_is_refused(tmp_path):
    with pytest.raises(InputError, match="16-mixed on a CPU"):
        run(tmp_path, config=settings(precision="16-mixed"))


def test_half_precision_begins_with_a_scale_that_no_gradient_overflows(tmp_path, monkeypatch):
    """As on a GPU: losses are sums, and a scale for their mean would lose the first updates."""
    monkeypatch.setattr("vcpipe.training.loop.usable_precision", lambda wanted, _: wanted)

    def of_many(model, batch, generator):
        loss, count = squared_error(model, batch, generator)
        return 100 * loss, 10_000 * count

    half = settings(max_epochs=1, precision="16-mixed")
    weights, _ = run(tmp_path / "half", of_many, half, network(0.0))
    single, _ = run(tmp_path / "32", of_many, settings(max_epochs=1), network(0.0))
    scale = torch.load(tmp_path / "half/last.pt", weights_only=True)["scaler"]["scale"]
    assert scale == pytest.approx(2**16 / 8e4)
    for name in weights:
        torch.testing.assert_close(weights[name], single[name], atol=2e-3, rtol=0)


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


def with_train_loss(config: Settings) -> Settings:
    stopping = EarlyStopping(monitor="train_loss")
    training = config.training.model_copy(update={"early_stopping": stopping})
    return Settings(config.optimizer, config.scheduler, training)


def test_the_first_tensor_that_is_not_finite_is_named(tmp_path):
    def broken(model, batch, generator):
        if model.training:
            with torch.no_grad():
                model[3].weight[0, 2] = float("inf")
        return squared_error(model, batch, generator)

    with pytest.raises(FloatingPointError, match=r"First of what is not finite: the weight 3\.wei"):
        run(tmp_path / "weight", broken)

    class Log(nn.Module):
        def forward(self, x):
            return x.clamp(max=0).log()

    model = nn.Sequential(nn.Linear(3, 4), Log(), nn.Linear(4, 1))
    with pytest.raises(FloatingPointError, match=r"finite: the output of 1 \(Log\)\. No update"):
        run(tmp_path / "output", model=model)

    cells = Pairs()
    cells.x[:, 1] = np.nan
    with pytest.raises(FloatingPointError, match="finite: x of the batch"):
        run(tmp_path / "batch", cells=cells)


def test_no_update_after_one_that_is_not_finite_changes_a_weight(tmp_path):
    """As on a GPU, which is told the next updates before the loss of one is looked at."""
    calls = iter(range(1, 100))

    def nan_once(model, batch, generator):
        value, count = squared_error(model, batch, generator)
        return (value * float("nan") if next(calls) == 3 else value), count

    model = network()
    quiet = {"say": lambda text: None, "threads": 1, "scores": None}
    config = with_train_loss(settings())
    its = _Run(model, nan_once, Pairs(), None, config, ALONE, tmp_path, **quiet)
    with closing(its), closing(its.loader.steps(epoch=0)) as batches:
        its.resume()
        its.ahead = 5
        for step in range(5):
            if step == 2:
                before = {name: each.clone() for name, each in model.state_dict().items()}
            its.update(batches, [step], stopping=False)
        with pytest.raises(FloatingPointError, match="at update 3"):
            its.settle()
    assert same(model.state_dict(), before)


def test_val_loss_within_epochs_decides_too(tmp_path):
    config = settings(validate_every_n_steps=2, save_top_k=3, optimizer=Optimizer(lr=0.3))
    weights, progress = run(tmp_path, config=config)
    judged = [(row[-1], row[1], row[0]) for row in progress.rows if row[-1] is not None]
    assert [update for *_, update in judged] == [2, 4, 5, 6, 8, 10, 10, 12, 14, 15, 16, 18, 20, 20]
    best = sorted(set(judged))
    # The last update of an epoch may be judged twice, to the same value.
    by_update = {update: (value, epoch, update) for value, epoch, update in best}
    assert [tuple(its) for its in progress.top] == sorted(by_update.values())[:3]
    files = {path.name for path in (tmp_path / "top").iterdir()}
    names = [f"epoch_{epoch}_update_{update}.pt" for _, epoch, update in progress.top]
    assert files >= set(names)
    kept = read_whole(tmp_path / "top" / names[0])
    assert same(kept["model"], weights)


def test_epochs_without_val_loss_are_not_judged_but_the_last_is(tmp_path):
    config = settings(max_epochs=5, validate_every_n_epochs=2, checkpoint_every_n_epochs=3)
    _, progress = run(tmp_path, config=config)
    assert [row[1] for row in progress.rows if row[-1] is not None] == [1, 3, 4]


@pytest.mark.parametrize("update", [3, 9, 14])
def test_a_run_with_every_interval_of_its_own_is_resumed_exactly(tmp_path, update):
    config = settings(
        **{"validate_every_n_steps": 3, "checkpoint_every_n_steps": 4, "save_top_k": 2},
        **{"checkpoint_every_n_epochs": 2, "gradient_accumulation": 2, "max_epochs": 6},
        scheduler=Scheduler(name="cosine_restarts", first_cycle_epochs=2, cycle_mult=1.5),
    )
    expected, whole = run(tmp_path / "whole", config=config)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "crashed", failing_at(update, crash), config)
    weights, progress = run(tmp_path / "crashed", config=config)
    assert same(weights, expected)
    assert progress == whole


def test_a_damaged_checkpoint_costs_the_updates_since_the_one_before_it(tmp_path):
    config, folder = settings(checkpoint_every_n_steps=3), tmp_path / "damaged"
    expected, whole = run(tmp_path / "whole", config=config)
    with pytest.raises(KeyboardInterrupt):
        run(folder, failing_at(14, crash), config)
    last = folder / "last.pt"
    last.write_bytes(last.read_bytes()[:500])
    said = []
    weights, progress = train(
        network(),
        squared_error,
        Pairs(),
        Pairs(8),
        config,
        ALONE,
        tmp_path / "damaged",
        said.append,
    )
    assert "last.pt cannot be read" in said[0]
    assert "the one before it serves" in said[0]
    assert "resumed at update 10" in said[1]
    assert same(weights, expected)
    assert progress == whole


def wait_for(is_true, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not is_true() and time.monotonic() < end:
        time.sleep(0.01)


def test_training_goes_on_when_the_disk_is_full(tmp_path):
    """A limit on the size of files stands for the disk, from the third epoch to the fourth."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    steps = iter(range(1, 100))

    def loss(model, batch, generator):
        if model.training:
            limits = {11: 1000, 16: before[0]}
            step = next(steps)
            if step == 16:
                # Checkpoints are written beside training, which would be past the limit too soon.
                wait_for(lambda: any("is not kept" in text for text in said))
            if step in limits:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limits[step], before[1]))
        return squared_error(model, batch, generator)

    said = []
    try:
        config = settings(max_epochs=5)
        _, progress = train(
            network(0.0), loss, Pairs(), Pairs(8), config, ALONE, tmp_path, said.append
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert any("checkpoint of update 15 is not kept: " in text for text in said)
    assert progress.epoch == 5
    assert read_whole(tmp_path / "last.pt")["progress"]["update"] == 25


def test_the_end_of_a_slurm_job_stops_a_run_that_goes_on_exactly(tmp_path, monkeypatch):
    expected, _ = run(tmp_path / "whole")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 10))
    with pytest.raises(Interrupted, match=r"stopped by the job's time.* after update 1"):
        run(tmp_path / "stopped")
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    assert same(run(tmp_path / "stopped")[0], expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_model_learns_the_same(tmp_path):
    plain, compiled = (
        run(tmp_path / str(its), config=settings(compile=its, max_epochs=2), model=network(0.0))[1]
        for its in (False, True)
    )
    assert compiled.best == pytest.approx(plain.best, rel=1e-5)


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
    assert "Interrupted: stopped by a signal" in errors
    _, resumed = in_processes(2, tmp_path / "stopped", **settings)
    assert same(resumed["weights"], whole["weights"])
    assert resumed["rows"] == whole["rows"]


def test_a_score_that_is_monitored_is_better_the_higher_it_is(tmp_path):
    """Weights of the second epoch, which scores highest; columns for what is said besides."""
    said = iter([0.1, 0.7, 0.3, 0.2])
    asked = []

    def scores(model):
        asked.append(model.training or torch.is_grad_enabled())
        return {"val_discrimination": next(said), "val_delta_pearson": 0.0}

    config = settings(early_stopping=EarlyStopping(monitor="val_discrimination", patience=2))
    weights, progress = train(
        *(network(), squared_error, Pairs(), Pairs(8), config, ALONE, tmp_path),
        say=lambda text: None,
        scores=scores,
    )
    assert (progress.best_epoch, progress.best) == (1, -0.7)
    assert progress.epoch == 4
    assert not any(asked)
    kept = read_whole(tmp_path / "top" / f"epoch_1_update_{progress.update // 2}.pt")["model"]
    assert same(weights, kept)
    header, *lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header.split(",") == [*COLUMNS, "val_discrimination", "val_delta_pearson"]
    assert {len(line.split(",")) for line in lines} == {len(COLUMNS) + 2}


def test_a_score_that_a_run_does_not_say_cannot_be_monitored(tmp_path):
    config = settings(early_stopping=EarlyStopping(monitor="val_delta_pearson"))
    with pytest.raises(InputError, match="monitor is val_delta_pearson, which this run does not"):
        run(tmp_path, config=config)


class Counted(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


def test_an_update_asks_torch_for_few_operations_more_than_a_bare_one_that_clips(tmp_path):
    """What a step of a small model takes is the number of operations, however small they are."""
    bare = network()
    optimizer = torch.optim.Adam(bare.parameters(), lr=0.01, fused=True)
    x = torch.from_numpy(Pairs().x[:8])
    batch = {"x": x, "y": x.sum(1, keepdim=True)}

    def bare_update():
        optimizer.zero_grad(set_to_none=True)
        loss, count = squared_error(bare, batch, None)
        (loss / count).backward()
        nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
        optimizer.step()

    quiet = {"say": lambda text: None, "threads": 1, "scores": None}
    config = with_train_loss(settings(gradient_clip=1.0))
    its = _Run(network(), squared_error, Pairs(), None, config, ALONE, tmp_path, **quiet)
    with closing(its), closing(its.loader.steps(epoch=0)) as batches:
        its.resume()
        # Optimisers make their state with the first one.
        bare_update()
        its.update(batches, [0], stopping=False)
        with Counted() as of_bare:
            bare_update()
        with Counted() as of_ours:
            its.update(batches, [1], stopping=False)
    # Loss, count and votes to stop, which travel.
    assert of_ours.number <= of_bare.number + 6
