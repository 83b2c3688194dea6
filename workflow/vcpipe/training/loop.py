"""The training loop: any model, any objective, any number of processes, resumed exactly.

Everything random is named by (seed, epoch, step, rank), so the state to resume from is the weights,
the optimiser and two counters. A run that was interrupted ends bit for bit as one that was not.
"""

import csv
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vcpipe.config.loading import Loading
from vcpipe.config.training import Optimizer, Scheduler, Training
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Segment, Share
from vcpipe.data.loading.reader import Batches
from vcpipe.data.order import BatchDraw, generator_of, num_steps
from vcpipe.errors import InputError, Interrupted
from vcpipe.files import writing
from vcpipe.training.distributed import Process, seed_draws, shared, to_device, total
from vcpipe.training.optimisers import build_optimizer, check_warmup, rate_factor

# Read together for val_loss: some blocks of a store.
CELLS_TO_VALIDATE = 4096
COLUMNS = ("step", "epoch", "lr", "grad_norm", "train_loss", "val_loss")

Loss = Callable[[nn.Module, dict[str, Tensor], torch.Generator], tuple[Tensor, int]]


@dataclass
class Progress:
    epoch: int = 0
    # Batches of this epoch that are done: (processes, batch_size, fetch_factor, batches), one of
    # these for each number of processes that took part.
    segments: list[list[int]] = field(default_factory=list)
    update: int = 0
    best: float = float("inf")
    best_epoch: int = -1
    epoch_loss: list[float] = field(default_factory=lambda: [0.0, 0.0])  # sum, count
    rows: list[list[float | None]] = field(default_factory=list)  # of metrics.csv
    waited: float = field(default=0.0, compare=False)  # seconds, for cells

    @property
    def step(self) -> int:
        return sum(batches for *_, batches in self.segments)


@dataclass(frozen=True)
class Settings:
    optimizer: Optimizer
    scheduler: Scheduler
    training: Training
    loading: Loading = field(default_factory=Loading)


def train(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    val_batches: Batches | None,
    settings: Settings,
    process: Process,
    folder: Path,
    say: Callable[[str], None] = print,
    threads: int = 1,
) -> tuple[dict[str, Tensor], Progress]:
    """Train to the end, or raise Interrupted; return the best epoch's weights.

    `threads` of a node read cells and make batches beside the model; they change nothing else.

    `folder` keeps the state to resume from. It must be named after everything that shapes the run
    (settings, data, code): whatever state lies there is continued.
    """
    run = _Run(model, loss, batches, val_batches, settings, process, folder, say, threads)
    with _stop_on_signal() as stop:
        run.resume()
        while not run.finished():
            run.train_epoch(stop)
            run.end_epoch()
    return torch.load(folder / "best.pt", weights_only=True), run.progress


class _Run:
    def __init__(self, model, loss, batches, val_batches, settings, process, folder, say, threads):
        self.model = model.to(process.device)
        self.parallel = shared(self.model, process)
        self.loss, self.batches, self.val_batches = loss, batches, val_batches
        self.settings, self.config, self.process = settings, settings.training, process
        self.folder, self.say = folder, say
        self.optimizer = build_optimizer(self.model, settings.optimizer)
        self.scaler = torch.amp.GradScaler(
            process.device.type, enabled=self.config.precision == "16-mixed"
        )
        if self.config.precision == "16-mixed" and process.device.type == "cpu":
            raise InputError("training.precision is 16-mixed on a CPU; expected 32 or bf16-mixed.")
        share = Share(
            process.rank, process.world, self.config.batch_size, settings.loading.fetch_factor
        )
        threads = max(1, threads // process.local_world)
        self.loader = Loader(batches, settings.loading, share, self.config.seed, threads)
        self.progress = Progress()
        # Of a whole epoch: one that goes on with other processes has others.
        plan = self.loader.plan(epoch=0)
        self.num_steps = plan.num_steps
        if plan.num_left_out:
            say(f"{plan.num_left_out} cells left out: fewer of their group than processes")
        updates_per_epoch = -(-self.num_steps // self.config.gradient_accumulation)
        self.num_updates = updates_per_epoch * self.config.max_epochs
        check_warmup(settings.scheduler, self.num_updates)
        if val_batches is not None and len(val_batches.reader) < process.world:
            raise InputError(
                f"val_loss is of {len(val_batches.reader)} cells, and there are {process.world} "
                "processes; expected a cell for each. Ask for fewer GPUs, or keep more cells for "
                "val (val_fraction, cell_split)."
            )
        self.saved_update = 0

    def finished(self) -> bool:
        waited = self.progress.epoch - 1 - self.progress.best_epoch
        patience = self.config.early_stopping.patience
        return self.progress.epoch >= self.config.max_epochs or (
            self.progress.best_epoch >= 0 and waited >= patience
        )

    def train_epoch(self, stop: list[int]) -> None:
        self.parallel.train()
        *before, mine = self.segments()
        began = time.perf_counter(), self.loader.waited, self.loader.cells
        num_steps = self.loader.plan(self.progress.epoch, before).num_steps
        size = self.config.gradient_accumulation
        with closing(self.loader.steps(self.progress.epoch, before, mine.steps)) as batches:
            for first in range(mine.steps, num_steps, size):
                steps = range(first, min(first + size, num_steps))
                offset = sum(its.steps for its in before)
                stopping = self.update(batches, [offset + step for step in steps], bool(stop))
                self.progress.segments[-1][-1] = steps.stop
                due = self.progress.update % self.config.checkpoint_every_n_steps == 0
                if due or stopping:
                    self.save()
                if stopping:
                    raise Interrupted(f"stopped by a signal after update {self.progress.update}")
        seconds, waited, cells = (
            now - then
            for now, then in zip(
                (time.perf_counter(), self.loader.waited, self.loader.cells), began, strict=True
            )
        )
        self.progress.waited += waited
        self.speed = f"{cells / seconds:,.0f} cells/s, {waited / seconds:.0%} waiting for them"

    def segments(self) -> list[Segment]:
        """What was done of this epoch; the last is of these processes."""
        share = self.loader.share
        mine = [share.world, share.batch_size, share.fetch_factor]
        its = self.progress.segments
        if not its or its[-1][:3] != mine:
            its.append([*mine, 0])
        return [Segment(*each) for each in its]

    def update(self, batches: Iterator[dict], steps: list[int], stopping: bool) -> bool:
        """One optimiser update from some batches; returns whether any process was told to stop."""
        progress = self.progress
        factor = rate_factor(
            self.settings.scheduler, progress.update, progress.epoch, self.num_updates
        )
        lr = self.settings.optimizer.lr * factor
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum = torch.zeros((), device=self.process.device)
        count = 0
        for step in steps:
            # Gradients travel between processes once per update, with the last batch.
            alone = self.process.world > 1 and step != steps[-1]
            with self.parallel.no_sync() if alone else nullcontext():
                part, part_count = self.forward(next(batches), step)
                self.scaler.scale(part).backward()
            loss_sum += part.detach()
            count += part_count
        loss_sum, count, votes = total([float(loss_sum), count, stopping], self.process)
        self.scaler.unscale_(self.optimizer)
        # DDP gives the mean of the processes' sums; the loss is the mean over all that was counted.
        for weight in self.model.parameters():
            if weight.grad is not None:
                weight.grad.mul_(self.process.world / count)
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.gradient_clip or float("inf")
        )
        self.check_finite(loss_sum / count, float(norm), lr)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        progress.update += 1
        progress.epoch_loss = [progress.epoch_loss[0] + loss_sum, progress.epoch_loss[1] + count]
        if progress.update % self.config.log_every_n_steps == 0:
            self.log(lr=lr, grad_norm=float(norm), train_loss=loss_sum / count)
        return votes > 0

    def forward(self, batch: dict[str, np.ndarray], step: int) -> tuple[Tensor, int]:
        key = (self.config.seed, self.progress.epoch, step, self.process.rank)
        # Dropout draws from the global generator: named here, it needs no state in a checkpoint.
        seed_draws(int(generator_of(*key, 2).integers(2**62)), self.process)
        return self.objective(self.parallel, to_device(batch, self.process), key)

    def objective(
        self, model: nn.Module, batch: dict[str, Tensor], key: tuple[int, ...]
    ) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(int(generator_of(*key, 3).integers(2**62)))
        with torch.autocast(
            self.process.device.type,
            dtype=torch.float16 if self.config.precision == "16-mixed" else torch.bfloat16,
            enabled=self.config.precision != "32",
        ):
            # A loss that changes in the course of a run is told by its batch how far that is.
            told = batch | {"update": self.progress.update}
            return self.loss(model, told, generator=generator)

    def check_finite(self, loss: float, norm: float, lr: float) -> None:
        """Stop before the update; the scaler of 16-mixed skips such updates by itself."""
        if self.scaler.is_enabled() or (np.isfinite(loss) and np.isfinite(norm)):
            return
        raise FloatingPointError(
            f"Loss is {loss} and gradient norm {norm} at update {self.progress.update + 1} "
            f"(lr {lr:.1e}). No update was made; the last checkpoint is update "
            f"{self.saved_update} in {self.folder}. Lower optimizer.lr or training.gradient_clip."
        )

    @torch.no_grad()
    def validate(self) -> float | None:
        """The loss on held-out cells: the same cells, masks and partners in every epoch."""
        if self.val_batches is None:
            return None
        self.model.eval()
        sums, reader = [0.0, 0.0], self.val_batches.reader
        # Even parts: a loss may compare the cells of a batch, and wait for every process's.
        batches = np.array_split(
            np.arange(len(reader)),
            num_steps(len(reader), self.config.batch_size, self.process.world),
        )
        mine = [np.array_split(its, self.process.world)[self.process.rank] for its in batches]
        several = max(1, CELLS_TO_VALIDATE // self.config.batch_size)
        for first in range(0, len(mine), several):
            buffer = reader.read(np.concatenate(mine[first : first + several]))
            place = 0
            for step, its in enumerate(mine[first : first + several], first):
                key = (self.config.seed, 0, step, self.process.rank, 4)
                places = np.arange(place, place + len(its))
                place += len(its)
                made = self.val_batches.batch(buffer, places, BatchDraw(*key))
                batch = to_device(made, self.process)
                loss_sum, count = self.objective(self.model, batch, key)
                sums = [sums[0] + float(loss_sum), sums[1] + count]
        loss_sum, count = total(sums, self.process)
        return loss_sum / count

    def end_epoch(self) -> None:
        progress = self.progress
        train_loss = progress.epoch_loss[0] / progress.epoch_loss[1]
        val_loss = self.validate()
        self.log(train_loss=train_loss, val_loss=val_loss)
        judged = {"train_loss": train_loss, "val_loss": val_loss}[
            self.config.early_stopping.monitor
        ]
        shown = "" if val_loss is None else f", val_loss {val_loss:.4f}"
        self.say(
            f"epoch {progress.epoch + 1}/{self.config.max_epochs}: "
            f"train_loss {train_loss:.4f}{shown}, {self.speed}"
        )
        if not np.isfinite(judged):
            raise FloatingPointError(
                f"{self.config.early_stopping.monitor} is {judged} after epoch "
                f"{progress.epoch + 1}; the last checkpoint is update {self.saved_update} in "
                f"{self.folder}. Lower optimizer.lr, or set training.precision to bf16-mixed or 32."
            )
        if judged < progress.best:
            progress.best, progress.best_epoch = judged, progress.epoch
            if self.process.first:
                with writing(self.folder / "best.pt") as partial:
                    torch.save(_on_cpu(self.model.state_dict()), partial)
        progress.epoch, progress.segments, progress.epoch_loss = progress.epoch + 1, [], [0.0, 0.0]
        self.save()

    def log(self, **values: float | None) -> None:
        known = {"step": self.progress.update, "epoch": self.progress.epoch, **values}
        self.progress.rows.append([known.get(column) for column in COLUMNS])

    def save(self) -> None:
        """Write the state to resume from; every process holds the same, the first writes it."""
        self.saved_update = self.progress.update
        if self.process.first:
            state = {
                "model": _on_cpu(self.model.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "progress": asdict(self.progress),
                "num_steps": self.num_steps,
                "num_updates": self.num_updates,
            }
            with writing(self.folder / "last.pt") as partial:
                torch.save(state, partial)
            write_metrics(self.folder / "metrics.csv", self.progress.rows)
        # No process goes on, or ends, before the state is on disk.
        total([0.0], self.process)

    def resume(self) -> None:
        path = self.folder / "last.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location=self.process.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        self.saved_update = self.progress.update
        if state["num_steps"] != self.num_steps:
            # What is left of the epoch is dealt anew; the schedule goes on at the same share of it.
            self.progress.update = self.progress.update * self.num_updates // state["num_updates"]
            self.say(f"an epoch has {self.num_steps} steps now, it had {state['num_steps']}")
        self.say(f"resumed at update {self.progress.update} from {path}")


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}


def write_metrics(path: Path, rows: list[list[float | None]]) -> None:
    with writing(path) as partial, partial.open("w", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)


class _stop_on_signal:
    """SIGTERM and SIGUSR1 fill a list, which the loop looks at between updates."""

    def __enter__(self) -> list[int]:
        self.received: list[int] = []
        self.before = {
            number: signal.signal(number, lambda received, _: self.received.append(received))
            for number in (signal.SIGTERM, signal.SIGUSR1)
        }
        return self.received

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
