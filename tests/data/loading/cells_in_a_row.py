"""A reader of cells that are nothing but their positions, and what a plan makes of them."""

from collections.abc import Sequence

import numpy as np

from vcpipe.config.loading import Loading
from vcpipe.data.loading.planning import plan_epoch
from vcpipe.data.loading.plans import Segment, Share
from vcpipe.data.loading.position_reader import PositionReader
from vcpipe.data.loading.strategies import STRATEGIES


class CellsInARow(PositionReader):
    def __init__(self, num_cells: int, block_size: int = 1, groups=None, **labels):
        super().__init__(num_cells, labels)
        self.block_size, self.groups = block_size, groups


def epoch_of(reader, config: Loading, seed: int = 0, epoch: int = 0) -> np.ndarray:
    """All cells of an epoch, before a buffer shuffles them."""
    order = STRATEGIES[config.strategy](reader, config, seed, epoch)
    return order.positions(order.draws_between(0, order.num_draws))


def steps_of(
    reader,
    config: Loading,
    world: int = 1,
    batch_size: int = 4,
    epoch: int = 0,
    done: Sequence[Segment] = (),
) -> list[list[np.ndarray]]:
    """By step and rank, the cells."""
    made = []
    for rank in range(world):
        share = Share(rank, world, batch_size, config.fetch_factor)
        plan = plan_epoch(reader, config, share, 0, epoch, done)
        buffers = [plan.positions(number) for number in range(len(plan.buffer_starts) - 1)]
        assert [len(its) for its in buffers] == np.diff(plan.buffer_starts).tolist()
        stream = np.concatenate([*buffers, np.zeros(0, dtype=np.int64)])
        cuts = [plan.step_start(step) for step in range(1, plan.num_steps)]
        made.append(np.split(stream, cuts) if plan.num_steps else [])
    assert len({len(its) for its in made}) == 1
    return [list(its) for its in zip(*made, strict=True)]


def seen_in(steps: list[list[np.ndarray]]) -> list[int]:
    return [cell for step in steps for part in step for cell in part.tolist()]
