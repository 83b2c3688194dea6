"""Which genes of a cell become tokens: the detected ones that fit, and some undetected ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vcpipe.data.draws import is_taken
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.packing import starts_of
from vcpipe.data.tokens.recipe import ANY, TOP


class Measured(NamedTuple):
    """The genes that each cell's dataset measured; any other gene is unknown there, not zero."""

    starts: np.ndarray  # int64 [datasets + 1]
    ids: np.ndarray  # int32, ascending within a dataset
    dataset_B: np.ndarray  # int64: of each cell of the rows


def measured_by(genes_of: Sequence[np.ndarray], dataset_B: np.ndarray) -> Measured:
    """Of the ids that each dataset measured, and the dataset of each cell of some rows."""
    starts = starts_of(np.array([len(ids) for ids in genes_of], dtype=np.int64))
    ids = np.concatenate([np.sort(ids) for ids in genes_of]).astype(np.int32)
    return Measured(starts, ids, np.asarray(dataset_B, dtype=np.int64))


@compiled
def keep_some(truncation, codes, ends, num, room, state, entries) -> None:
    """The entries of a cell that stay, ascending; codes and ends are those of distinct_counts."""
    size = len(codes)
    if size <= room:
        for entry in range(size):
            entries[entry] = entry
    elif truncation == TOP:
        _keep_top(codes, ends, num, room, state, entries)
    elif truncation == ANY:
        place, left = 0, size
        for entry in range(size):
            if is_taken(state, left, room - place, left):
                entries[place] = entry
                place += 1
            left -= 1
    else:
        for entry in range(room):
            entries[entry] = entry


@compiled
def _keep_top(codes, ends, num, room, state, entries) -> None:
    """The largest counts, and as many of those at the limit as fit, drawn: never by their id."""
    size, limit, place = len(codes), num - 1, 0
    while limit > 0 and size - ends[limit - 1] < room:
        limit -= 1
    left = ends[limit] - (ends[limit - 1] if limit else 0)
    wanted = room - (size - ends[limit])
    for entry in range(size):
        code = codes[entry]
        is_kept = code > limit
        if code == limit:
            is_kept = is_taken(state, entry, wanted, left)
            wanted, left = wanted - is_kept, left - 1
        if is_kept:
            entries[place] = entry
            place += 1


@compiled
def count_absent(ids, measured) -> int:
    """How many measured genes a cell does not have; both ascend."""
    entry, left = 0, len(measured)
    for gene in measured:
        while entry < len(ids) and ids[entry] < gene:
            entry += 1
        if entry < len(ids) and ids[entry] == gene:
            left -= 1
    return left


@compiled
def draw_absent(ids, measured, left, wanted, state, out) -> None:
    """Any `wanted` of the `left` measured genes that a cell does not have, ascending."""
    entry = place = 0
    for gene in measured:
        while entry < len(ids) and ids[entry] < gene:
            entry += 1
        if entry < len(ids) and ids[entry] == gene:
            continue
        if is_taken(state, left, wanted - place, left):
            out[place] = gene
            place += 1
        left -= 1
