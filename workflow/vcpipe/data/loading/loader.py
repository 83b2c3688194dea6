"""Batches of an epoch, made ahead by threads of this process: read, decode, tokenise.

Threads, not processes: what is read is handed on without a copy, and decoding, tokenising and
packing are compiled loops that run beside Python.
"""

import math
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vcpipe.config.loading import Loading
from vcpipe.data.cell_store.cells import Cells, cells_of, gathered
from vcpipe.data.loading.planning import plan_epoch
from vcpipe.data.loading.plans import Plan, Segment, Share
from vcpipe.data.loading.reader import Batches, Buffer, Reader
from vcpipe.data.order import BatchDraw
from vcpipe.data.rows import Rows, concatenated
from vcpipe.memory import keep_freed_memory

# A thread makes as many batches in turn as hold so many cells: handing over takes time, too.
CELLS_OF_TURN = 256
# Of a small buffer it makes fewer, so that not many buffers are held.
TURNS_OF_BUFFER = 8
# Turns under way for each thread, beyond the one that is being learned from.
AHEAD = 2


class Loader:
    """Epochs of one process; `waited` and `cells` tell how well it keeps up."""

    def __init__(
        self,
        batches: Batches,
        config: Loading,
        share: Share,
        seed: int,
        threads: int = 1,
    ):
        keep_freed_memory()
        self.batches, self.config, self.share = batches, config, share
        self.seed, self.threads = seed, threads
        self.waited, self.cells = 0.0, 0
        self._plan: tuple[tuple, Plan] | None = None

    def plan(self, epoch: int, done: Sequence[Segment] = ()) -> Plan:
        """This process's part of an epoch, after what others have done of it."""
        key = epoch, tuple(done)
        if self._plan is None or self._plan[0] != key:
            began, reader = time.perf_counter(), self.batches.reader
            self._plan = key, plan_epoch(reader, self.config, self.share, self.seed, *key)
            self.waited += time.perf_counter() - began
        return self._plan[1]

    def notes(self, epoch: int) -> list[str]:
        """What batches that count something have to say of an epoch."""
        its = getattr(self.batches, "notes_of_epoch", None)
        return its(epoch) if its else []

    def steps(
        self, epoch: int, done: Sequence[Segment] = (), first_step: int = 0
    ) -> Iterator[dict[str, np.ndarray]]:
        """The batches from a step on; steps count from the last of the segments."""
        plan, before = self.plan(epoch, done), sum(its.steps for its in done)
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loader")
        ring = _Ring(plan, self.batches.reader, pool)
        turns: deque[Future[_Made]] = deque()
        most = CELLS_OF_TURN // self.share.batch_size, self.share.fetch_factor // TURNS_OF_BUFFER
        steps_of_turn = max(1, min(most))
        began = time.perf_counter()
        try:
            for first in range(first_step, plan.num_steps, steps_of_turn):
                last = min(first + steps_of_turn, plan.num_steps)
                starts = [plan.step_start(step) for step in range(first, last + 1)]
                draws = [
                    BatchDraw(self.seed, epoch, before + step, self.share.rank)
                    for step in range(first, last)
                ]
                parts = ring.parts(starts[0], starts[-1])
                turns.append(pool.submit(self._make, parts, starts, draws))
                if len(turns) > AHEAD * self.threads:
                    for batch in self._taken(turns, began):
                        yield batch
                        began = time.perf_counter()
            while turns:
                for batch in self._taken(turns, began):
                    yield batch
                    began = time.perf_counter()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _taken(
        self, turns: deque[Future["_Made"]], began: float
    ) -> Iterator[dict[str, np.ndarray]]:
        """The batches of the next turn."""
        made = turns.popleft().result()
        self.waited += time.perf_counter() - began
        for size, batch in made.batches:
            self.cells += size
            yield batch
        if made.error is not None:
            raise made.error

    def _make(self, parts: list["_Part"], starts: list[int], draws: list[BatchDraw]) -> "_Made":
        """Batches of the stretches between the starts, up to the first that can't be made."""
        batches = []
        try:
            for part in parts:
                part.filling.wait()
            for start, stop, draw in zip(starts[:-1], starts[1:], draws, strict=True):
                its = [part for part in parts if part.start < stop and start < part.stop]
                buffers = [part.filling.buffer for part in its]
                places = [
                    np.arange(max(start, part.start), min(stop, part.stop)) - part.start
                    for part in its
                ]
                if len(its) > 1:
                    buffers = [TwoBuffers(buffers, places)]
                    places = [np.arange(stop - start)]
                batches.append((stop - start, self.batches.batch(buffers[0], places[0], draw)))
        except Exception as error:
            return _Made(batches, error)
        return _Made(batches)


@dataclass(frozen=True)
class _Made:
    """Batches with their numbers of cells, and what went wrong with the one behind them."""

    batches: list[tuple[int, dict[str, np.ndarray]]]
    error: Exception | None = None


class _Filling:
    """A buffer, what is still to be done for it, and what is being done."""

    def __init__(self, plan: Plan, number: int, reader: Reader, pool: ThreadPoolExecutor):
        self.begun = pool.submit(lambda: _begin(reader, plan.positions(number)))
        self.tasks: Sequence[Callable[[], None]] | None = None
        self.futures: list[Future] = []
        self.is_full = False

    def submit_all(self, pool: ThreadPoolExecutor) -> None:
        if self.tasks is None:
            self.buffer, self.tasks = self.begun.result()
        if len(self.futures) < len(self.tasks):
            self._submit(len(self.tasks), pool)

    def submit_share(self, pool: ThreadPoolExecutor, share: float) -> None:
        """Some of the tasks, as soon as it is known what they are."""
        if self.tasks is None and self.begun.done():
            self.buffer, self.tasks = self.begun.result()
        if self.tasks is not None:
            self._submit(math.ceil(share * len(self.tasks)), pool)

    def wait(self) -> None:
        """Until it is full, in a task that began after all of its own, which can't be blocked."""
        if not self.is_full:
            for future in self.futures:
                future.result()
            self.is_full = True

    def _submit(self, most: int, pool: ThreadPoolExecutor) -> None:
        first = len(self.futures)
        self.futures += [pool.submit(task) for task in self.tasks[first : first + most]]


@dataclass(frozen=True)
class _Part:
    """A buffer, which may still be filled, and the stretch of the stream that it holds."""

    filling: _Filling
    start: int
    stop: int


class _Ring:
    """The buffer that batches are made of, and the next one, which is filled meanwhile."""

    def __init__(self, plan: Plan, reader: Reader, pool: ThreadPoolExecutor):
        self.plan, self.reader, self.pool = plan, reader, pool
        self.starts = plan.buffer_starts.tolist()
        self.fillings: dict[int, _Filling] = {}

    def parts(self, start: int, stop: int) -> list[_Part]:
        """The buffers, one or several, that a stretch of the stream lies in."""
        starts = self.starts
        first, last = bisect_right(starts, start) - 1, bisect_left(starts, stop) - 1
        for number in [each for each in self.fillings if each < first]:
            del self.fillings[number]
        made = []
        for number in range(first, last + 1):
            filling = self._filling(number)
            filling.submit_all(self.pool)
            made.append(_Part(filling, starts[number], starts[number + 1]))
        if last + 2 < len(starts):
            share = (stop - start) / (starts[last + 1] - starts[last])
            self._filling(last + 1).submit_share(self.pool, share)
        return made

    def _filling(self, number: int) -> _Filling:
        if number not in self.fillings:
            self.fillings[number] = _Filling(self.plan, number, self.reader, self.pool)
        return self.fillings[number]


def _begin(reader: Reader, positions: np.ndarray) -> tuple[Buffer, list[Callable[[], None]]]:
    """A buffer and tasks that fill it; a back-end that has no parts reads in one task."""
    if hasattr(reader, "begin"):
        return reader.begin(positions)
    later = LaterBuffer(reader, positions)
    return later, [later.fill]


class LaterBuffer:
    """A buffer that a thread is still to read."""

    def __init__(self, reader: Reader, positions: np.ndarray):
        self.reader, self.positions = reader, positions
        self.buffer: Buffer | None = None

    def fill(self) -> None:
        self.buffer = self.reader.read(self.positions)

    def cells(self, places: np.ndarray) -> tuple[Cells, np.ndarray]:
        return self.buffer.cells(places)

    def rows(self, places: np.ndarray) -> Rows:
        return self.buffer.rows(places)


class TwoBuffers:
    """A batch whose cells lie at the end of one buffer and at the beginning of the next."""

    def __init__(self, buffers: Sequence[Buffer], places: Sequence[np.ndarray]):
        self.buffers, self.places = buffers, places
        parts = zip(buffers, places, strict=True)
        self.positions = np.concatenate([buffer.positions[its] for buffer, its in parts])

    def cells(self, places: np.ndarray) -> tuple[Cells, np.ndarray]:
        parts = [buffer.rows(its) for buffer, its in zip(self.buffers, self.places, strict=True)]
        return cells_of(concatenated(parts)), np.asarray(places)

    def rows(self, places: np.ndarray) -> Rows:
        return gathered(*self.cells(places))
