"""Batches whose cells are all of one group, for all processes together (scConcept's sampler).

Within a group units of cells come in random order; some of them at a time make a chunk, which is
shuffled and cut into batches. Chunks of all groups come in random order, and so do the batches of
the chunks that are read together.
"""

# G groups, C chunks

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from vcpipe.config.loading import Loading
from vcpipe.data.loading.permutation import Permutation
from vcpipe.data.loading.plans import Segment, Share
from vcpipe.data.loading.reader import Reader
from vcpipe.data.order import generator_of
from vcpipe.errors import InputError

# A chunk has a cell for each process, or it is left out.
LEAST_IN_CHUNK = 256


@dataclass(frozen=True)
class Groups:
    """Where each group begins and ends, and how its cells are cut into chunks."""

    starts: np.ndarray
    stops: np.ndarray
    unit: int
    seed: int
    epoch: int

    def units_in_chunk(self, cells_in_buffer: int) -> int:
        """As many units of a group as there are groups in a buffer: both are mixed alike."""
        least = -(-LEAST_IN_CHUNK // self.unit)
        return max(least, round((cells_in_buffer / self.unit) ** 0.5))


def within_group(reader: Reader, config: Loading, seed: int, epoch: int) -> Groups:
    """All cells of a batch from one group, and every cell once."""
    groups = getattr(reader, "groups", None)
    if groups is None or not len(groups[0]):
        raise InputError(
            "loading.strategy is within_group, which reads the grouped copy of a store; these "
            "cells do not lie by group. Name the labels in preprocess.<corpus>.store.group_by, or "
            "choose another strategy."
        )
    starts, stops = groups
    return Groups(starts, stops, config.block_size or reader.block_size, seed, epoch)


@dataclass(frozen=True)
class Chunks:
    """Some units of a group each; of those at the front a part may have been seen."""

    group: np.ndarray
    first_unit: np.ndarray  # in the group's own order
    last_unit: np.ndarray
    num_cells: np.ndarray
    num_seen: np.ndarray

    def taken(self, which: np.ndarray) -> "Chunks":
        return Chunks(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


class GroupPlan:
    """One process's cells of the chunks that are left, in their order.

    A buffer holds this process's share of a window: of consecutive chunks.
    """

    def __init__(self, groups: Groups, share: Share, chunks: Chunks):
        self.groups, self.share = groups, share
        left = chunks.num_cells - chunks.num_seen
        enough = left >= share.world
        self.num_left_out = int(left[~enough].sum())
        self.chunks, self.left_out = chunks.taken(enough), chunks.taken(~enough)
        self.left = left[enough]
        size = share.batch_size * share.world
        self.num_batches = np.minimum(-(-self.left // size), self.left // share.world)
        self.num_steps = int(self.num_batches.sum())
        window = (np.cumsum(self.left) - self.left) // (size * share.fetch_factor)
        self.windows = np.append(np.flatnonzero(np.diff(window, prepend=-1)), len(window))
        base, larger = np.divmod(self.left, np.maximum(self.num_batches, 1))
        its = larger * share.of(base + 1) + (self.num_batches - larger) * share.of(base)
        ends = np.append(0, np.cumsum(its))
        self.buffer_starts = ends[self.windows].astype(np.int64)
        self._batches = cache(self._batches_of_window)
        self.window_steps = np.append(0, np.cumsum(self.num_batches))[self.windows]

    def step_start(self, step: int) -> int:
        window = int(np.searchsorted(self.window_steps, step, side="right")) - 1
        if window == len(self.windows) - 1:
            return int(self.buffer_starts[-1])
        _, first, stop = self._batches(window)
        sizes = self.share.of(stop - first)
        before = sizes[: step - self.window_steps[window]].sum()
        return int(self.buffer_starts[window] + before)

    def positions(self, buffer: int) -> np.ndarray:
        rank, world = self.share.rank, self.share.world
        chunk, first, stop = self._batches(buffer)
        cells = {its: self._cells(its) for its in np.unique(chunk).tolist()}
        parts = [
            cells[its][begin + rank : end : world]
            for its, begin, end in zip(chunk.tolist(), first.tolist(), stop.tolist(), strict=True)
        ]
        return np.concatenate(parts)

    def after(self, steps: int) -> Chunks:
        """What is left when every process has taken so many steps."""
        window = int(np.searchsorted(self.window_steps, steps, side="right")) - 1
        seen = self.chunks.num_seen.copy()
        seen[: self.windows[window]] = self.chunks.num_cells[: self.windows[window]]
        if window < len(self.windows) - 1:
            chunk, first, stop = self._batches(window)
            its = slice(0, steps - self.window_steps[window])
            np.add.at(seen, chunk[its], (stop - first)[its])
        rest = replace(self.chunks, num_seen=seen)
        return joined(rest.taken(rest.num_seen < rest.num_cells), self.left_out)

    def _batches_of_window(self, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Chunk of each batch of a window, and where in the rest of the chunk it lies."""
        begin, end = self.windows[window], self.windows[window + 1]
        chunk = np.repeat(np.arange(begin, end), self.num_batches[begin:end])
        first_chunk = self.chunks.taken(np.array([begin]))
        key = (
            int(first_chunk.group[0]),
            int(first_chunk.first_unit[0]),
            int(first_chunk.num_seen[0]),
        )
        generator_of(self.groups.seed, self.groups.epoch, 9, *key).shuffle(chunk)
        # A chunk's own batches stay in order, so that what was seen of it is its front.
        order = np.argsort(chunk, kind="stable")
        number = np.empty(len(chunk), dtype=np.int64)
        counts = self.num_batches[begin:end]
        number[order] = np.arange(len(chunk)) - np.repeat(np.cumsum(counts) - counts, counts)
        base, larger = np.divmod(self.left[chunk], self.num_batches[chunk])
        first = number * base + np.minimum(number, larger)
        return chunk, first, first + base + (number < larger)

    def _cells(self, chunk: int) -> np.ndarray:
        """Positions of what is left of a chunk."""
        its, groups = self.chunks.taken(np.array([chunk])), self.groups
        group, first, last = int(its.group[0]), int(its.first_unit[0]), int(its.last_unit[0])
        start, stop = int(groups.starts[group]), int(groups.stops[group])
        num_whole = (stop - start) // groups.unit
        places = np.arange(first, last)
        key = (groups.seed, groups.epoch)
        units = Permutation(num_whole, *key, 12, group)[places[places < num_whole]]
        units = np.append(units, places[places >= num_whole])
        cells = (start + units[:, None] * groups.unit + np.arange(groups.unit)).ravel()
        cells = cells[cells < stop]
        generator_of(*key, 10, group, first).shuffle(cells)
        return cells[int(its.num_seen[0]) :]


def joined(*parts: Chunks) -> Chunks:
    names = Chunks.__dataclass_fields__
    return Chunks(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def all_chunks(groups: Groups, cells_in_buffer: int) -> Chunks:
    """The chunks of an epoch, in its order."""
    in_chunk, found = groups.units_in_chunk(cells_in_buffer), []
    for group, (start, stop) in enumerate(zip(groups.starts, groups.stops, strict=True)):
        num_units = -(-(stop - start) // groups.unit)
        num_chunks = max(1, num_units // in_chunk)
        bounds = np.arange(num_chunks + 1) * num_units // num_chunks
        ends = np.minimum(bounds * groups.unit, stop - start)
        which = np.full(num_chunks, group)
        seen = np.zeros(num_chunks, dtype=np.int64)
        found.append(Chunks(which, bounds[:-1], bounds[1:], np.diff(ends), seen))
    chunks = joined(*found)
    return chunks.taken(Permutation(len(chunks.group), groups.seed, groups.epoch, 11, 0)[:])


def group_plan(groups: Groups, share: Share, done: Sequence[Segment] = ()) -> GroupPlan:
    """The plan of what the segments before have left."""
    first = done[0] if done else share
    chunks = all_chunks(groups, first.batch_size * first.fetch_factor)
    for its in done:
        before = Share(0, its.world, its.batch_size, its.fetch_factor)
        chunks = GroupPlan(groups, before, chunks).after(its.steps)
    return GroupPlan(groups, share, chunks)
