"""Cells that lie anywhere in long arrays, and copies of some of them."""

from dataclasses import dataclass

import numpy as np

from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled


@dataclass(frozen=True)
class Cells:
    """Cells that lie anywhere in long arrays: cell i has entries first[i]:first[i] + lengths[i]."""

    first: np.ndarray  # int64
    lengths: np.ndarray  # uint32
    ids: np.ndarray  # int32, ascending within a cell; where that is enough, uint16
    counts: np.ndarray  # uint32; where that is enough, uint16
    totals: np.ndarray  # uint64
    keys: np.ndarray  # uint64

    def __len__(self) -> int:
        return len(self.keys)


def cells_of(rows: Rows) -> Cells:
    lengths = np.diff(rows.starts).astype(np.uint32)
    return Cells(rows.starts[:-1], lengths, rows.ids, rows.counts, rows.totals, rows.keys)


def rows_of(cells: Cells) -> Rows:
    """Cells that lie one after the other."""
    starts = np.append(0, np.cumsum(cells.lengths, dtype=np.int64))
    return Rows(starts, cells.ids, cells.counts, cells.totals, cells.keys)


NOTHING = Cells(
    np.empty(0, np.int64),
    np.empty(0, np.uint32),
    np.empty(0, np.int32),
    np.empty(0, np.uint32),
    np.empty(0, np.uint64),
    np.empty(0, np.uint64),
)


@compiled
def copy_entries(first, lengths, ids, counts, chosen, ids_out, counts_out) -> int:
    place = 0
    for cell in chosen:
        begin, size = first[cell], np.int64(lengths[cell])
        # Slices, whose places can't be negative: so several entries are copied at a time.
        copy_numbers(ids[begin : begin + size], ids_out[place : place + size])
        copy_numbers(counts[begin : begin + size], counts_out[place : place + size])
        place += size
    return place


@compiled
def copy_numbers(numbers, out) -> None:
    """Also into a larger kind of numbers."""
    for entry in range(len(numbers)):
        out[entry] = numbers[entry]


def gathered(cells: Cells, chosen: np.ndarray) -> Rows:
    """Chosen cells in arrays of their own, in this order."""
    return Rows(
        *_gather(
            *(cells.first, cells.lengths, cells.ids, cells.counts, cells.totals, cells.keys),
            chosen,
        )
    )


@compiled
def _gather(first, lengths, ids, counts, totals, keys, chosen):
    num = len(chosen)
    starts = np.zeros(num + 1, np.int64)
    its_totals, its_keys = np.empty(num, np.uint64), np.empty(num, np.uint64)
    for place in range(num):
        cell = chosen[place]
        starts[place + 1] = starts[place] + np.int64(lengths[cell])
        its_totals[place], its_keys[place] = totals[cell], keys[cell]
    its_ids, its_counts = np.empty(starts[num], np.int32), np.empty(starts[num], np.uint32)
    copy_entries(first, lengths, ids, counts, chosen, its_ids, its_counts)
    return starts, its_ids, its_counts, its_totals, its_keys


def copied(parts: list[Cells], chosen: list[np.ndarray]) -> Cells:
    """Cells of one or several arrays in arrays of their own."""
    lengths = np.concatenate([c.lengths[its] for c, its in zip(parts, chosen, strict=True)])
    first = np.append(0, np.cumsum(lengths, dtype=np.int64))
    ids, counts = np.empty(first[-1], dtype=np.int32), np.empty(first[-1], dtype=np.uint32)
    filled = 0
    for cells, its in zip(parts, chosen, strict=True):
        filled += copy_entries(
            cells.first, cells.lengths, cells.ids, cells.counts, its, ids[filled:], counts[filled:]
        )
    totals = np.concatenate([c.totals[its] for c, its in zip(parts, chosen, strict=True)])
    keys = np.concatenate([c.keys[its] for c, its in zip(parts, chosen, strict=True)])
    return Cells(first[:-1], lengths, ids, counts, totals, keys)
