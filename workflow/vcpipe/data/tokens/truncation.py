"""Which genes of a cell become tokens: the detected ones that fit, and some undetected ones."""

# B cells

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.cell_keys import stream
from vcpipe.data.distinct_counts import SMALL, distinct_counts, longest_row
from vcpipe.data.draws import ABSENT, KEPT, Draw, is_taken
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.packing import Absent, Entries, Specials, Tokens, pack, starts_of


@dataclass(frozen=True)
class Measured:
    """The genes that each cell's dataset measured; any other gene is unknown there, not zero."""

    starts: np.ndarray  # int64 [datasets + 1]
    ids: np.ndarray  # int32, ascending within a dataset
    dataset_B: np.ndarray  # int64: of each cell of the rows


def measured_by(genes_of: Sequence[np.ndarray], dataset_B: np.ndarray) -> Measured:
    """Of the ids that each dataset measured, and the dataset of each cell of some rows."""
    starts = starts_of(np.array([len(ids) for ids in genes_of], dtype=np.int64))
    ids = np.concatenate([np.sort(ids) for ids in genes_of]).astype(np.int32)
    return Measured(starts, ids, np.asarray(dataset_B, dtype=np.int64))


def genes_by_id(
    rows: Rows,
    values_N: np.ndarray,
    special: Specials,
    config: Tokenizer,
    measured: Measured | None,
    draw: Draw,
) -> Tokens:
    """Tokens of the genes that fit and of undetected ones, by ascending id."""
    absent = absent_genes(rows, config, measured, draw)
    room_B = room_for_genes(config) - np.diff(absent.starts)
    kept = kept_entries(rows, config.truncation, room_B, draw)
    return pack(rows, kept, values_N, absent, special, config.prepend_cls)


def room_for_genes(config: Tokenizer) -> int:
    return config.max_genes - config.prepend_cls


def absent_genes(rows: Rows, config: Tokenizer, measured: Measured | None, draw: Draw) -> Absent:
    """Draw include_zero_genes × the room of undetected genes, or all where there are fewer."""
    wanted = int(room_for_genes(config) * config.include_zero_genes)
    if wanted == 0:
        return Absent(np.zeros(len(rows) + 1, dtype=np.int64), np.zeros(0, dtype=np.int32))
    assert measured is not None, "include_zero_genes needs the genes that datasets measured"
    where = (rows.starts, rows.ids, measured.starts, measured.ids, measured.dataset_B)
    left_B = np.empty(len(rows), dtype=np.int64)
    _count_absent(*where, left_B)
    starts = starts_of(np.minimum(left_B, wanted))
    ids = np.empty(starts[-1], dtype=np.int32)
    _draw_absent(*where, rows.keys, left_B, draw.seed, draw.epoch, starts, ids)
    return Absent(starts, ids)


def kept_entries(rows: Rows, truncation: str, room_B: np.ndarray, draw: Draw) -> Entries:
    """The detected genes that stay, at most room_B of each cell, by ascending id."""
    starts = starts_of(np.minimum(np.diff(rows.starts), room_B))
    entries = np.empty(starts[-1], dtype=np.int64)
    if starts[-1] == len(rows.ids):
        entries[:] = np.arange(len(entries))
    else:
        TRUNCATIONS[truncation](
            rows.starts, rows.counts, rows.keys, draw.seed, draw.epoch, starts, entries
        )
    return Entries(starts, entries)


@compiled
def _top(starts, counts, keys, seed, epoch, kept_starts, entries) -> None:
    """The largest counts, and as many of those at the limit as fit, drawn: never by their id."""
    longest = longest_row(starts)
    codes, ends = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=np.int64)
    distinct, table = np.empty(longest, dtype=np.int64), np.zeros(SMALL, dtype=np.int32)
    for row in range(len(starts) - 1):
        first, last = starts[row], starts[row + 1]
        place, room = kept_starts[row], kept_starts[row + 1] - kept_starts[row]
        if last - first == room:
            for entry in range(first, last):
                entries[place + entry - first] = entry
            continue
        limit = distinct_counts(counts[first:last], codes, distinct, ends, table) - 1
        while limit > 0 and last - first - ends[limit - 1] < room:
            limit -= 1
        left = ends[limit] - (ends[limit - 1] if limit else 0)
        wanted = room - (last - first - ends[limit])
        state = stream(seed, epoch, KEPT, keys[row])
        for entry in range(first, last):
            code = codes[entry - first]
            is_kept = code > limit
            if code == limit:
                is_kept = is_taken(state, entry - first, wanted, left)
                wanted, left = wanted - is_kept, left - 1
            if is_kept:
                entries[place] = entry
                place += 1


@compiled
def _any(starts, counts, keys, seed, epoch, kept_starts, entries) -> None:
    for row in range(len(starts) - 1):
        left = starts[row + 1] - starts[row]
        place, wanted = kept_starts[row], kept_starts[row + 1] - kept_starts[row]
        state = stream(seed, epoch, KEPT, keys[row])
        for entry in range(starts[row], starts[row + 1]):
            if is_taken(state, left, wanted, left):
                entries[place] = entry
                place, wanted = place + 1, wanted - 1
            left -= 1


@compiled
def _first(starts, counts, keys, seed, epoch, kept_starts, entries) -> None:
    for row in range(len(starts) - 1):
        for place in range(kept_starts[row], kept_starts[row + 1]):
            entries[place] = starts[row] + place - kept_starts[row]


TRUNCATIONS = {"top_value": _top, "random": _any, "first": _first}


@compiled
def _count_absent(starts, ids, measured_starts, measured, dataset_B, left_B) -> None:
    for row in range(len(starts) - 1):
        entry, stop = starts[row], starts[row + 1]
        first, last = measured_starts[dataset_B[row]], measured_starts[dataset_B[row] + 1]
        left_B[row] = last - first
        for place in range(first, last):
            while entry < stop and ids[entry] < measured[place]:
                entry += 1
            if entry < stop and ids[entry] == measured[place]:
                left_B[row] -= 1


@compiled
def _draw_absent(
    starts, ids, measured_starts, measured, dataset_B, keys, left_B, seed, epoch, out_starts, out
) -> None:
    for row in range(len(starts) - 1):
        entry, stop = starts[row], starts[row + 1]
        place, wanted = out_starts[row], out_starts[row + 1] - out_starts[row]
        left = left_B[row]
        state = stream(seed, epoch, ABSENT, keys[row])
        for gene in measured[measured_starts[dataset_B[row]] : measured_starts[dataset_B[row] + 1]]:
            while entry < stop and ids[entry] < gene:
                entry += 1
            if entry < stop and ids[entry] == gene:
                continue
            if is_taken(state, left, wanted, left):
                out[place] = gene
                place, wanted = place + 1, wanted - 1
            left -= 1
