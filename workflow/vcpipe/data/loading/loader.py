"""Batches of an epoch, made ahead by threads of this process: read, decode, tokenise.

Threads, not processes: what is read is handed on without a copy, and decoding, tokenising and
packing are compiled loops that run beside Python.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from vcpipe.config.loading import Loading
from vcpipe.data.cell_store.cells import cells_of, copied, rows_of
from vcpipe.data.loading.planning import plan_epoch
from vcpipe.data.loading.plans import Plan, Segment, Share
from vcpipe.data.loading.reader import Batches, Buffer, Reader
from vcpipe.data.order import BatchDraw
from vcpipe.data.rows import Rows, concatenated

# Batches under way for each thread, beyond the one that is being learned from.
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

    def steps(
        self, epoch: int, done: Sequence[Segment] = (), first_step: int = 0
    ) -> Iterator[dict[str, np.ndarray]]:
        """The batches from a step on; steps count from the last of the segments."""
        plan, before = self.plan(epoch, done), sum(its.steps for its in done)
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loader")
        ring = _Ring(plan, self.batches.reader, pool)
        under_way: deque[tuple[int, Future]] = deque()

        began = time.perf_counter()

        def take() -> dict[str, np.ndarray]:
            size, future = under_way.popleft()
            made = future.result()
            self.waited += time.perf_counter() - began
            self.cells += size
            return made

        try:
            for step in range(first_step, plan.num_steps):
                draw = BatchDraw(self.seed, epoch, before + step, self.share.rank)
                start, stop = plan.step_start(step), plan.step_start(step + 1)
                parts = ring.parts(start, stop)
                under_way.append((stop - start, pool.submit(self._make, parts, draw)))
                if len(under_way) > AHEAD * self.threads:
                    yield take()
                    began = time.perf_counter()
            while under_way:
                yield take()
                began = time.perf_counter()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, parts: list["_Part"], draw: BatchDraw) -> dict[str, np.ndarray]:
        for part in parts:
            part.filled()
        buffers = [part.buffer for part in parts]
        places = [np.arange(part.start, part.stop) for part in parts]
        if len(parts) == 1:
            return self.batches.batch(buffers[0], places[0], draw)
        joined = TwoBuffers(buffers, places)
        return self.batches.batch(joined, np.arange(len(joined.positions)), draw)


class _Filling:
    """A buffer, what is still to be done for it, and what is being done."""

    def __init__(self, plan: Plan, number: int, reader: Reader, pool: ThreadPoolExecutor):
        self.begun = pool.submit(lambda: _begin(reader, plan.positions(number)))
        self.num_submitted = 0
        self.futures: list[Future] = []

    @property
    def buffer(self) -> Buffer:
        return self.begun.result()[0]

    def submit_all(self, pool: ThreadPoolExecutor) -> None:
        tasks = self.begun.result()[1]
        self._submit(tasks[self.num_submitted :], pool)

    def submit_share(self, pool: ThreadPoolExecutor, share: float) -> None:
        """Some of the tasks, as soon as it is known what they are."""
        if self.begun.done():
            tasks, first = self.begun.result()[1], self.num_submitted
            self._submit(tasks[first : first + math.ceil(share * len(tasks))], pool)

    def _submit(self, tasks: Sequence[Callable[[], None]], pool: ThreadPoolExecutor) -> None:
        self.futures += [pool.submit(task) for task in tasks]
        self.num_submitted += len(tasks)


class _Part:
    """Some cells of a buffer, which may still be filled."""

    def __init__(self, filling: _Filling, start: int, stop: int):
        self.buffer, self.futures = filling.buffer, filling.futures
        self.start, self.stop = start, stop

    def filled(self) -> None:
        # These tasks began before this one, so that waiting for them can't block them.
        for future in self.futures:
            future.result()


class _Ring:
    """The buffer that batches are made of, and the next one, which is filled meanwhile."""

    def __init__(self, plan: Plan, reader: Reader, pool: ThreadPoolExecutor):
        self.plan, self.reader, self.pool = plan, reader, pool
        self.fillings: dict[int, _Filling] = {}

    def parts(self, start: int, stop: int) -> list[_Part]:
        """The buffers, one or several, that hold a stretch of the stream."""
        starts = self.plan.buffer_starts
        first = int(np.searchsorted(starts, start, side="right")) - 1
        last = int(np.searchsorted(starts, stop, side="left")) - 1
        for number in [each for each in self.fillings if each < first]:
            del self.fillings[number]
        made = []
        for number in range(first, last + 1):
            filling = self._filling(number)
            filling.submit_all(self.pool)
            begin, end = int(starts[number]), int(starts[number + 1])
            made.append(_Part(filling, max(start, begin) - begin, min(stop, end) - begin))
        if last + 2 < len(starts):
            ahead = self._filling(last + 1)
            share = (stop - start) / (starts[last + 1] - starts[last])
            ahead.submit_share(self.pool, share)
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

    def rows(self, places: np.ndarray) -> Rows:
        return self.buffer.rows(places)


class TwoBuffers:
    """A batch whose cells lie at the end of one buffer and at the beginning of the next."""

    def __init__(self, buffers: Sequence[Buffer], places: Sequence[np.ndarray]):
        self.buffers, self.places = buffers, places
        parts = zip(buffers, places, strict=True)
        self.positions = np.concatenate([buffer.positions[its] for buffer, its in parts])

    def rows(self, places: np.ndarray) -> Rows:
        parts = [buffer.rows(its) for buffer, its in zip(self.buffers, self.places, strict=True)]
        whole = concatenated(parts)
        return rows_of(copied([cells_of(whole)], [np.asarray(places)]))
