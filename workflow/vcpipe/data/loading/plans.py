"""What one of several processes reads in an epoch: buffers of cells, cut into steps.

All processes take equally many steps, and their shares of one step differ by a cell at most. A plan
can begin where others of the same epoch, for any number of processes, have ended.
"""

# R rank of a process, W number of processes

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vcpipe.data.loading.orders import Order
from vcpipe.data.order import num_steps
from vcpipe.errors import InputError


@dataclass(frozen=True)
class Share:
    """Of one process: its rank among `world`, cells of a batch, batches of a buffer."""

    rank: int = 0
    world: int = 1
    batch_size: int = 64
    fetch_factor: int = 256

    def of(self, count: int) -> int:
        """How many of the first `count` things are this process's, dealt one by one."""
        return (count + self.world - 1 - self.rank) // self.world


class Plan(Protocol):
    """This process's cells of an epoch as one stream, cut into buffers and into steps."""

    num_steps: int
    num_left_out: int  # cells that the strategy leaves out
    buffer_starts: np.ndarray  # places of the stream, one more than buffers

    def step_start(self, step: int) -> int:
        """The place of the stream where a step begins."""
        ...

    def positions(self, buffer: int) -> np.ndarray:
        """Cells of a buffer, in the order in which they are seen."""
        ...


@dataclass(frozen=True)
class Rest:
    """Draws of an epoch that are left: some that were begun with, then all from a place on."""

    begun: np.ndarray  # draws
    place: int = 0  # of units

    def num_draws(self, order: Order) -> int:
        return len(self.begun) + order.num_draws - order.num_before(self.place)


WHOLE = Rest(np.zeros(0, dtype=np.int64))


class DealtPlan:
    """Units are dealt to the processes in turn; what can't be dealt evenly is cut by the draw.

    Only where a plan begins with less than a cell for each process, which happens at the very end
    of an epoch that other processes began, these few cells are left out.
    """

    def __init__(self, order: Order, share: Share, rest: Rest = WHOLE):
        self.order, self.share, self.rest = order, share, rest
        self.num_draws = rest.num_draws(order)
        is_enough = self.num_draws >= share.world
        self.num_left_out = 0 if is_enough else self.num_draws
        self.num_steps = (
            num_steps(self.num_draws, share.batch_size, share.world) if is_enough else 0
        )
        self.rounds = (order.num_units - rest.place) // share.world
        if any(self._num_lacking(each, self.rounds) < 0 for each in self._all()):
            self.rounds -= 1
        size = share.batch_size * share.fetch_factor
        begun = share.of(len(rest.begun))
        # As many for all processes, so that they also begin with the units together.
        self.begun_buffers = -(-len(rest.begun) // (size * share.world))
        self.rounds_in_buffer = max(1, size // order.unit)
        starts = [min(number * size, begun) for number in range(self.begun_buffers)]
        for number in range(-(-self.rounds // self.rounds_in_buffer)):
            starts.append(begun + self._num_dealt(share, number * self.rounds_in_buffer))
        self.buffer_starts = np.array([*(starts or [0]), share.of(self.num_draws)], dtype=np.int64)

    def step_start(self, step: int) -> int:
        return self.share.of(self._num_drawn(step))

    def positions(self, buffer: int) -> np.ndarray:
        return self.order.positions(self._draws(buffer))

    def after(self, steps: int) -> Rest:
        """What is left of the epoch when every process has taken so many steps."""
        begun, drawn = self.rest.begun, self._num_drawn(steps)
        if not self.order.is_mixed and self.order.unit == 1:
            return Rest(begun[drawn:], self.rest.place + max(drawn - len(begun), 0))
        if steps == 0:
            return self.rest
        plans = [DealtPlan(self.order, share, self.rest) for share in self._all()]
        num_begun = max(plan._num_buffers_begun(steps) for plan in plans)
        num_begun = max(num_begun, self.begun_buffers)
        left = [plan._draws_from(plan.step_start(steps), num_begun) for plan in plans]
        rounds = (num_begun - self.begun_buffers) * self.rounds_in_buffer
        place = self.rest.place + rounds * self.share.world
        if num_begun == len(self.buffer_starts) - 1:
            place = self.order.num_units
        return Rest(np.concatenate(left), place)

    def _all(self) -> list[Share]:
        return [replace(self.share, rank=rank) for rank in range(self.share.world)]

    def _num_drawn(self, steps: int) -> int:
        """By all processes: steps differ by one draw at most, the larger ones come first."""
        base, larger = divmod(self.num_draws, max(self.num_steps, 1))
        return steps * base + min(steps, larger)

    def _turn(self, share: Share) -> int:
        """The first unit goes to whom the next draw would, so that single draws stay together."""
        return (share.rank - len(self.rest.begun)) % share.world

    def _num_dealt(self, share: Share, rounds: int) -> int:
        """Draws of a process in the first rounds."""
        turn, its = divmod(self.order.short_place - self.rest.place, share.world)
        has_short = its == self._turn(share) and 0 <= turn < rounds
        return rounds * self.order.unit - (self.order.num_missing if has_short else 0)

    def _num_lacking(self, share: Share, rounds: int) -> int:
        """Draws that a process still lacks after some rounds."""
        given = share.of(len(self.rest.begun)) + self._num_dealt(share, rounds)
        return share.of(self.num_draws) - given

    def _not_dealt(self) -> np.ndarray:
        """This process's part of what is left after all rounds."""
        start = self.order.num_before(self.rest.place + self.rounds * self.share.world)
        for share in sorted(self._all(), key=self._turn):
            stop = start + self._num_lacking(share, self.rounds)
            if share == self.share:
                return self.order.draws_between(start, stop)
            start = stop
        raise AssertionError("every process has a turn")

    def _draws(self, buffer: int) -> np.ndarray:
        share, order = self.share, self.order
        if buffer < self.begun_buffers:
            parts = [self._begun(buffer)]
        else:
            first = (buffer - self.begun_buffers) * self.rounds_in_buffer
            last = min(first + self.rounds_in_buffer, self.rounds)
            rounds = np.arange(first, last, dtype=np.int64)
            places = self.rest.place + self._turn(share) + rounds * share.world
            parts = [order.draws(order.units(places))]
        if buffer == len(self.buffer_starts) - 2:
            parts.append(self._not_dealt())
        draws = np.concatenate(parts)
        if order.is_mixed:
            # Named by where the plan begins, too: other plans of the epoch mix other buffers.
            key = (self.rest.place, len(self.rest.begun), share.rank, buffer)
            order.generator(*key).shuffle(draws)
        return draws

    def _begun(self, buffer: int) -> np.ndarray:
        """A buffer's part of the draws that others began with."""
        share, begun = self.share, self.rest.begun
        size = share.batch_size * share.fetch_factor
        if self.order.is_mixed:
            # What lay in one buffer stays together, and is read by one process.
            first = sum(replace(share, rank=rank).of(len(begun)) for rank in range(share.rank))
            mine = begun[first : first + share.of(len(begun))]
        else:
            mine = begun[share.rank :: share.world]
        return mine[buffer * size : (buffer + 1) * size]

    def _num_buffers_begun(self, steps: int) -> int:
        return int(np.searchsorted(self.buffer_starts[:-1], self.step_start(steps), side="left"))

    def _draws_from(self, place: int, num_buffers: int) -> np.ndarray:
        """The stream from a place on, to the end of the first buffers."""
        first = max(int(np.searchsorted(self.buffer_starts, place, side="right")) - 1, 0)
        if first >= num_buffers:
            return np.zeros(0, dtype=np.int64)
        draws = np.concatenate([self._draws(buffer) for buffer in range(first, num_buffers)])
        return draws[place - self.buffer_starts[first] :]


def refuse_too_small(num_cells: int, num_units: int, unit: int, share: Share) -> None:
    """A split that can't feed its processes, or fill a batch."""
    if num_cells < share.batch_size:
        raise InputError(
            f"training.batch_size is {share.batch_size} and there are {num_cells} cells to learn "
            "from; expected a batch of some of them. Lower batch_size."
        )
    if num_units < share.world:
        raise InputError(
            f"{share.world} processes cannot share {num_units} blocks of {unit} cells; ask for "
            "fewer GPUs, or lower loading.block_size."
        )


@dataclass(frozen=True)
class Segment:
    """Steps that were taken in an epoch by so many processes, with batches of one size."""

    world: int
    batch_size: int
    fetch_factor: int
    steps: int


def dealt_plan(order: Order, share: Share, done: Sequence[Segment] = ()) -> DealtPlan:
    """The plan of what the segments before have left."""
    rest = WHOLE
    for its in done:
        before = DealtPlan(order, Share(0, its.world, its.batch_size, its.fetch_factor), rest)
        rest = before.after(its.steps)
    return DealtPlan(order, share, rest)
