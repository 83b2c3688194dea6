"""A batch through the model and its loss: draws that are named, and arithmetic of one precision."""

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from vcpipe.config.training import Training
from vcpipe.data.loading.reader import Batches
from vcpipe.data.order import BatchDraw, num_steps
from vcpipe.errors import InputError
from vcpipe.training.distributed import Process, has_bfloat16, seed_draws, to_device, total

Loss = Callable[[nn.Module, dict[str, Tensor], torch.Generator], tuple[Tensor, int]]
# What a run says of held-out data besides its loss, by name; called by all processes.
Scores = Callable[[nn.Module], dict[str, float]]

# Read together for val_loss: some blocks of a store.
CELLS_TO_VALIDATE = 4096
LOW = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def usable_precision(wanted: str, process: Process) -> str:
    if wanted == "16-mixed" and process.device.type == "cpu":
        raise InputError("training.precision is 16-mixed on a CPU; expected 32 or bf16-mixed.")
    if wanted == "auto":
        return "bf16-mixed" if has_bfloat16(process) else "32"
    return wanted


def seed_of(*key: int) -> int:
    """A seed named by numbers, in a fraction of the time that numpy's generators take to begin."""
    return xxhash.xxh3_64_intdigest(struct.pack(f"{len(key)}q", *key)) >> 1


class Forward:
    """The loss of batches of one process."""

    def __init__(self, loss: Loss, config: Training, precision: str, process: Process):
        self.loss, self.config, self.process = loss, config, process
        self.arithmetic: Callable[[], AbstractContextManager] = nullcontext
        if precision in LOW:
            self.arithmetic = partial(torch.autocast, process.device.type, LOW[precision])

    def learned(
        self, model: nn.Module, batch: dict[str, Tensor], epoch: int, step: int, update: int
    ) -> tuple[Tensor, int]:
        key = (self.config.seed, epoch, step, self.process.rank)
        # Dropout draws from the global generator: named here, it needs no state in a checkpoint.
        seed_draws(seed_of(*key, 2), self.process)
        return self.objective(model, batch, key, update)

    def objective(
        self, model: nn.Module, batch: dict[str, Tensor], key: tuple[int, ...], update: int
    ) -> tuple[Tensor, int]:
        """A loss that changes in the course of a run is told by its batch how far that is."""
        generator = torch.Generator().manual_seed(seed_of(*key, 3))
        with self.arithmetic():
            return self.loss(model, batch | {"update": update}, generator=generator)

    @torch.no_grad()
    def score(self, model: nn.Module, scores: Scores) -> dict[str, float]:
        model.eval()
        with self.arithmetic():
            return scores(model)

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Batches, update: int) -> float:
        """The loss on held-out cells: the same cells, masks and partners every time."""
        model.eval()
        loss_sum, count = torch.zeros((), dtype=torch.float64, device=self.process.device), 0
        for step, is_own, batch in self._held_out(batches):
            key = (self.config.seed, 0, step, self.process.rank, 4)
            part, part_count = self.objective(model, to_device(batch, self.process), key, update)
            if is_own:
                loss_sum += part
                count += part_count
        loss_sum, count = total([float(loss_sum), count], self.process)
        return loss_sum / count

    def _held_out(self, batches: Batches) -> Iterator[tuple[int, bool, dict[str, np.ndarray]]]:
        """Steps, and this process's batch of each.

        Where there are fewer cells than processes, those without one get the first of all, which
        is not theirs: models that are divided between processes are called by all of them.
        """
        reader, world = batches.reader, self.process.world
        cells = np.arange(len(reader))
        # Even parts: a loss may compare the cells of a batch, and wait for every process's.
        parts = np.array_split(cells, num_steps(len(cells), self.config.batch_size, world))
        mine = [np.array_split(its, world)[self.process.rank] for its in parts]
        several = max(1, CELLS_TO_VALIDATE // self.config.batch_size)
        for first in range(0, len(mine), several):
            shares = mine[first : first + several]
            read = [its if len(its) else cells[:1] for its in shares]
            buffer, place = reader.read(np.concatenate(read)), 0
            for step, (its, share) in enumerate(zip(read, shares, strict=True), first):
                places = np.arange(place, place + len(its))
                place += len(its)
                draw = BatchDraw(self.config.seed, 0, step, self.process.rank, 4)
                yield step, len(share) > 0, batches.batch(buffer, places, draw)
