"""What everything random of an epoch is named by: a function of (seed, epoch, step, rank) only."""

from dataclasses import dataclass

import numpy as np


def generator_of(*key: int) -> np.random.Generator:
    """A generator named by numbers: generator_of(seed, epoch, step)."""
    return np.random.default_rng(np.random.SeedSequence(key))


@dataclass(frozen=True)
class BatchDraw:
    """What a batch is made for: the name of everything that is drawn in it."""

    seed: int
    epoch: int
    step: int = 0
    rank: int = 0
    purpose: int = 1

    def generator(self) -> np.random.Generator:
        """For what the cells of a batch share; what is a cell's own is named by its key."""
        return generator_of(self.seed, self.epoch, self.step, self.rank, self.purpose)


def num_steps(num_cells: int, batch_size: int, world: int) -> int:
    """Steps of an epoch: as many as the batch size asks for, but a cell for each process in each.

    >>> num_steps(10, 4, 1), num_steps(3, 1, 2)
    (3, 1)
    """
    return min(-(-num_cells // (batch_size * world)), max(num_cells // world, 1))
