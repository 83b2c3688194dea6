"""The training loop: any model, any objective, any number of processes, resumed exactly.

Everything random is named by (seed, epoch, step, rank), so the state to resume from is the weights,
the optimiser and two counters. A run that was interrupted ends bit for bit as one that was not.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vcpipe.config.loading import Loading
from vcpipe.config.training import Optimizer, Scheduler, Training
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Segment, Share
from vcpipe.data.loading.reader import Batches
from vcpipe.errors import InputError, Interrupted
from vcpipe.training.checkpointing import Checkpoints
from vcpipe.training.distributed import (
    Process,
    begin_sum,
    divided_like,
    exchanging,
    is_queued,
    shared,
    to_device,
    total,
)
from vcpipe.training.forward import Forward, Loss, Scores, usable_precision
from vcpipe.training.gradients import Gradients
from vcpipe.training.loggers import LOGGERS
from vcpipe.training.not_finite import first_gradient_not_finite, first_not_finite
from vcpipe.training.optimisers import build_optimizer, check_schedule, learning_rate
from vcpipe.training.progress import Progress
from vcpipe.training.signals import StopRequest
from vcpipe.training.speed import Bar, Speed, told

# A GPU is told an update ahead of the one whose loss is looked at, so that it never waits.
AHEAD = 1


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
    scores: Scores | None = None,
) -> tuple[dict[str, Tensor], Progress]:
    """Train to the end, or raise Interrupted; return the weights with the best monitored value.

    `threads` of a node read cells and make batches beside the model; they change nothing else.
    `scores` says more of held-out data than its loss; one of them may be monitored.

    `folder` keeps the state to resume from. It must be named after everything that shapes the run
    (settings, data, code): whatever state lies there is continued.
    """
    run = _Run(model, loss, batches, val_batches, settings, process, folder, say, threads, scores)
    with closing(run), StopRequest() as stop:
        run.resume()
        while not run.finished():
            run.train_epoch(stop)
            run.end_epoch()
        run.end()
        return run.checkpoints.best_weights(run.progress.top), run.progress


@dataclass(frozen=True)
class _Done:
    """One update, or what it is to be made of; the device may still be computing its numbers."""

    update: int
    epoch: int
    lr: float
    numbers: Tensor  # sum of losses, their count, votes to stop, norms of all gradients
    ready: torch.cuda.Event | None
    batches: list[tuple[int, dict[str, Tensor]]]  # by step

    def read(self) -> list[float]:
        if self.ready is not None:
            self.ready.synchronize()
        return self.numbers.tolist()


class _Run:
    def __init__(
        self, model, loss, batches, val_batches, settings, process, folder, say, threads, scores
    ):
        self.settings, self.config, self.process = settings, settings.training, process
        self.folder, self.say, self.val_batches = folder, say, val_batches
        self.scores = scores
        if scores is None and self.config.early_stopping.is_score:
            raise InputError(
                f"training.early_stopping.monitor is {self.config.early_stopping.monitor}, which "
                "this run does not say of its held-out cells; expected val_loss or train_loss."
            )
        self.precision = usable_precision(self.config.precision, process)
        self.forward = Forward(loss, self.config, self.precision, process)
        self.model = model.to(process.device)
        if self.config.compile:
            self.model.compile()
        self.parallel = shared(self.model, process, self.config.strategy)
        # Weights are named again: where they are divided, these are their parts.
        weights = [its for its in self.model.parameters() if its.requires_grad]
        self.gradients = Gradients(weights, process)
        self.optimizer = build_optimizer(self.model, settings.optimizer)
        self.scaler = torch.amp.GradScaler(
            process.device.type, enabled=self.precision == "16-mixed"
        )
        # Once a loss is not finite, no update that was told ahead changes anything any more.
        self.spoilt = torch.zeros((), device=process.device)
        self.done: deque[_Done] = deque()
        self.ahead = AHEAD if is_queued(process) else 0
        self.stopping = False
        share = Share(
            process.rank, process.world, self.config.batch_size, settings.loading.fetch_factor
        )
        threads = max(1, threads // process.local_world)
        self.loader = Loader(batches, settings.loading, share, self.config.seed, threads)
        self.progress = Progress()
        self.checkpoints = Checkpoints(folder, say, process.first)
        # Of a whole epoch: one that goes on with other processes has others.
        plan = self.loader.plan(epoch=0)
        self.num_steps = plan.num_steps
        if plan.num_left_out:
            say(f"{plan.num_left_out} cells left out: fewer of their group than processes")
        self.updates_per_epoch = -(-self.num_steps // self.config.gradient_accumulation)
        self.num_updates = self.updates_per_epoch * self.config.max_epochs
        check_schedule(
            settings.scheduler, settings.optimizer, self.num_updates, self.updates_per_epoch
        )
        self.speed = Speed(self.loader, process, self.precision)
        self.logger, self.bar = None, None

    def resume(self) -> None:
        # The first process may still be writing what a run in the same processes has left.
        total([0.0], self.process)
        state = self.checkpoints.read()
        if state is not None:
            self.take(state)
        if total([self.progress.update], self.process)[0] != (
            self.progress.update * self.process.world
        ):
            raise InputError(
                f"{self.folder} holds update {self.progress.update} for process "
                f"{self.process.rank} and another one for others; expected one folder that all "
                "nodes share."
            )
        together = self.process.world * self.config.batch_size * self.config.gradient_accumulation
        self.say(f"{together} cells an update, precision {self.precision}")
        if self.process.first:
            make = LOGGERS[self.config.logger]
            self.logger = make(self.folder, self.config, self.progress.update)
        self.bar = Bar(self.num_updates, self.process.first)

    def take(self, state: dict) -> None:
        """Go on from a state, whichever number of processes wrote it, and however they shared."""
        ours = self.model.state_dict()
        if ours.keys() != state["model"].keys():
            raise InputError(f"{self.folder} holds the state of another model; remove it.")
        self.model.load_state_dict(
            {name: divided_like(its, ours[name]) for name, its in state["model"].items()}
        )
        moments = state["optimizer"]
        weights = [its for group in self.optimizer.param_groups for its in group["params"]]
        for number, values in moments["state"].items():
            for name, its in values.items():
                if its.shape == weights[number].shape and its.ndim:
                    values[name] = divided_like(its, weights[number])
        self.optimizer.load_state_dict(moments)
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        if state["num_steps"] != self.num_steps:
            # What is left of the epoch is dealt anew; the schedule goes on at the same share of it.
            self.progress.update = self.progress.update * self.num_updates // state["num_updates"]
            self.say(f"an epoch has {self.num_steps} steps now, it had {state['num_steps']}")
        self.say(f"resumed at update {self.progress.update} from {self.folder}")

    def finished(self) -> bool:
        waited = self.progress.epoch - 1 - self.progress.best_epoch
        patience = self.config.early_stopping.patience
        return self.progress.epoch >= self.config.max_epochs or (
            self.progress.best_epoch >= 0 and waited >= patience
        )

    def train_epoch(self, stop: StopRequest) -> None:
        self.parallel.train()
        *before, mine = self.segments()
        self.speed.mark()
        num_steps = self.loader.plan(self.progress.epoch, before).num_steps
        size = self.config.gradient_accumulation
        with closing(self.loader.steps(self.progress.epoch, before, mine.steps)) as batches:
            for first in range(mine.steps, num_steps, size):
                steps = range(first, min(first + size, num_steps))
                offset = sum(its.steps for its in before)
                self.update(batches, [offset + step for step in steps], bool(stop))
                self.progress.segments[-1][-1] = steps.stop
                kept = self.is_due(self.config.validate_every_n_steps) and self.validate_within()
                due = self.is_due(self.config.checkpoint_every_n_steps)
                if due or kept or self.stopping:
                    self.save(kept)
                if self.stopping:
                    self.end()
                    reason = stop.reason or "a signal to another process"
                    raise Interrupted(f"stopped by {reason} after update {self.progress.update}")
        self.settle()
        self.epoch_speed = self.speed.since()
        self.progress.waited += self.epoch_speed["waited"]

    def is_due(self, interval: int | None) -> bool:
        return interval is not None and self.progress.update % interval == 0

    def segments(self) -> list[Segment]:
        """What was done of this epoch; the last is of these processes."""
        share = self.loader.share
        mine = [share.world, share.batch_size, share.fetch_factor]
        its = self.progress.segments
        if not its or its[-1][:3] != mine:
            its.append([*mine, 0])
        return [Segment(*each) for each in its]

    def update(self, batches: Iterator[dict], steps: list[int], stopping: bool) -> None:
        """One optimiser update from some batches. Nothing here waits for a GPU."""
        progress, device = self.progress, self.process.device
        lr = self.rate()
        self.gradients.forget()
        losses, count, used = [], 0, []
        for step in steps:
            # Gradients travel between processes once per update, with the last batch.
            is_last = step == steps[-1]
            with exchanging(self.parallel, is_last):
                batch = to_device(next(batches), self.process)
                used.append((step, batch))
                part, part_count = self.forward.learned(
                    *(self.parallel, batch, progress.epoch, step, progress.update)
                )
                losses.append(part.detach())
                count += part_count
                if is_last:
                    sums = torch.stack(
                        [
                            reduce(torch.add, losses).double(),
                            torch.full((), count, dtype=torch.float64, device=device),
                            torch.full((), float(stopping), dtype=torch.float64, device=device),
                        ]
                    )
                    # They travel during the backward pass.
                    wait = begin_sum(sums, self.process)
                if progress.update == 0 and step == steps[0]:
                    self.begin_scaling(part_count)
                self.scaler.scale(part).backward()
        wait()
        self.scaler.unscale_(self.optimizer)
        # Processes share the mean of their sums; the loss is the mean over all that was counted.
        factor = 1 / count
        if self.process.world > 1:
            factor = (self.process.world / sums[1]).float()
        norms = self.gradients.scale(factor, self.config.gradient_clip)
        numbers, ready = torch.cat([sums, norms]), None
        if self.ahead and not self.scaler.is_enabled():
            # A sum of finite numbers times zero is zero, of others it is nan.
            self.spoilt.logical_or_(numbers.sum() * 0)
            self.optimizer.found_inf = self.spoilt
        if is_queued(self.process):
            numbers, ready = numbers.to("cpu", non_blocking=True), torch.cuda.Event()
            ready.record()
        progress.update += 1
        self.speed.steps += len(steps)
        self.done.append(_Done(progress.update, progress.epoch, lr, numbers, ready, used))
        # A CPU's numbers are known before they change a weight.
        self.settle(self.ahead)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def begin_scaling(self, count: int) -> None:
        """GradScaler begins with what suits a mean; of a sum, the first updates would be lost."""
        if self.scaler.is_enabled():
            count = total([float(count)], self.process)[0] / self.process.world
            self.scaler = torch.amp.GradScaler(self.process.device.type, init_scale=2.0**16 / count)

    def rate(self) -> float:
        progress = self.progress
        lr = learning_rate(
            self.settings.scheduler,
            self.settings.optimizer.lr,
            *(progress.update, progress.epoch, self.num_updates, self.updates_per_epoch),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def settle(self, ahead: int = 0) -> None:
        """Look at the numbers of all updates but the last few."""
        while len(self.done) > ahead:
            done = self.done.popleft()
            loss_sum, count, votes, *norms = done.read()
            loss, norm = loss_sum / count, math.hypot(*norms)
            self.check_finite(done, loss, norms, norm)
            former = self.progress.epoch_loss
            self.progress.epoch_loss = [former[0] + loss_sum, former[1] + count]
            if done.update % self.config.log_every_n_steps == 0:
                its = {"step": done.update, "epoch": done.epoch, "lr": done.lr}
                self.log(its, grad_norm=norm, train_loss=loss)
            self.stopping = self.stopping or votes > 0
            self.count_operations(done)
            self.bar.show(
                done.update,
                partial(lambda loss: f"loss {loss:.4f}, {told(self.speed.since())}", loss),
            )

    def count_operations(self, done: _Done) -> None:
        step, batch = done.batches[0]

        def forward() -> None:
            self.model.eval()
            key = (self.config.seed, done.epoch, step, self.process.rank)
            self.forward.objective(self.model, batch, key, done.update)
            self.parallel.train()

        self.speed.count_operations(forward)

    def check_finite(self, done: _Done, loss: float, norms: list[float], norm: float) -> None:
        """The device made no such update; the scaler of 16-mixed goes on to the next one."""
        if self.scaler.is_enabled() or (np.isfinite(loss) and np.isfinite(norm)):
            return
        self.checkpoints.wait()
        raise FloatingPointError(
            f"Loss is {loss} and gradient norm {norm} at update {done.update} "
            f"(lr {done.lr:.1e}). {self.origin(done, norms)}No update was made; the last "
            f"checkpoint is update {self.checkpoints.update} in {self.folder}. Lower "
            "optimizer.lr or training.gradient_clip."
        )

    def origin(self, done: _Done, norms: list[float]) -> str:
        found = None
        # Divided weights are gathered by all processes or none; what is wrong may be of one.
        if not self.gradients.are_divided:
            for step, batch in done.batches:
                again = partial(
                    self.forward.learned, self.model, batch, done.epoch, step, done.update
                )
                # Losses may wait for those of other processes: all of them are asked again.
                its = first_not_finite(self.model, batch, again)
                found = found or its
        found = found or first_gradient_not_finite(self.model, norms)
        return f"First of what is not finite: {found}. " if found else ""

    def validate_within(self) -> bool:
        """Look at held-out cells within an epoch; returns whether its weights are to be kept."""
        if self.val_batches is None:
            return False
        self.settle()
        found = self.held_out()
        self.parallel.train()
        self.log(self.here(), **found)
        monitor = self.config.early_stopping.monitor
        return monitor in found and self.judge(found[monitor])

    def held_out(self) -> dict[str, float]:
        """val_loss, and the scores of a run that has some."""
        update = self.progress.update
        found = {"val_loss": self.forward.validate(self.model, self.val_batches, update)}
        if self.scores is not None:
            found |= self.forward.score(self.model, self.scores)
        return found

    def here(self) -> dict[str, float]:
        return {"step": self.progress.update, "epoch": self.progress.epoch}

    def judge(self, value: float) -> bool:
        if not np.isfinite(value):
            raise FloatingPointError(
                f"{self.config.early_stopping.monitor} is {value} after epoch "
                f"{self.progress.epoch + 1}; the last checkpoint is update "
                f"{self.checkpoints.update} in {self.folder}. Lower optimizer.lr, or set "
                "training.precision to bf16-mixed or 32."
            )
        # The lowest value is the best one.
        sign = -1 if self.config.early_stopping.is_score else 1
        return self.progress.judge(sign * value, self.config.save_top_k)

    def end_epoch(self) -> None:
        progress, config = self.progress, self.config
        train_loss = progress.epoch_loss[0] / progress.epoch_loss[1]
        is_last = progress.epoch + 1 == config.max_epochs
        found: dict[str, float] = {}
        if self.val_batches is not None and (
            is_last or (progress.epoch + 1) % config.validate_every_n_epochs == 0
        ):
            found = self.held_out()
        self.log(self.here(), train_loss=train_loss, **found)
        shown = "".join(f", {name} {value:.4f}" for name, value in found.items())
        self.say(
            f"epoch {progress.epoch + 1}/{config.max_epochs}: "
            f"train_loss {train_loss:.4f}{shown}, {told(self.epoch_speed)}"
        )
        for note in self.loader.notes(progress.epoch):
            self.say(note)
        judged = (found | {"train_loss": train_loss}).get(config.early_stopping.monitor)
        kept = judged is not None and self.judge(judged)
        progress.epoch, progress.segments, progress.epoch_loss = progress.epoch + 1, [], [0.0, 0.0]
        due = progress.epoch % config.checkpoint_every_n_epochs == 0
        if due or kept or self.finished():
            self.save(kept)

    def log(self, row: dict[str, float], **values: float | None) -> None:
        row = row | values
        self.progress.note(row)
        if self.logger is not None:
            self.logger.log(row)

    def save(self, keep_weights: bool) -> None:
        """Begin to write the state to resume from."""
        self.settle()
        its = self.progress
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": vars(its)
            | {
                "rows": [*its.rows],
                "columns": [*its.columns],
                "segments": [[*each] for each in its.segments],
            },
            "num_steps": self.num_steps,
            "num_updates": self.num_updates,
        }
        self.checkpoints.save(state, keep_weights)

    def end(self) -> None:
        """No process ends before the state is on disk."""
        self.checkpoints.wait()
        total([0.0], self.process)

    def close(self) -> None:
        for each in (self.bar, self.logger):
            if each is not None:
                each.close()
        self.checkpoints.close()
