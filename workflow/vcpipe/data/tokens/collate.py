"""Cells wherever they lie -> tokens, in one compiled pass that lets go of Python's lock.

A cell is copied out of its block, cut to the genes that fit, ordered or binned, laid where the
batch wants it, partly hidden and padded, while it is in the processor's nearest cache.
"""

# B cells, N tokens of all of them, T tokens of the longest cell, M hidden ones

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vcpipe.data.binning import MIDDLE, edge_digits, look_up, quantile_digits
from vcpipe.data.cell_keys import stream
from vcpipe.data.cell_store.cells import Cells, copy_numbers
from vcpipe.data.distinct_counts import SMALL, distinct_counts
from vcpipe.data.draws import ABSENT, ABSENT_ORDER, BIN_TIES, KEPT, RANK_TIES, Draw, shuffle
from vcpipe.data.normalised_values import cell_scale, normalised
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.masking import NOTHING, Hiding, choose, hide, num_hidden
from vcpipe.data.tokens.packing import Empty, Specials
from vcpipe.data.tokens.rank_value import DIGITS, rank_counts, rank_weights
from vcpipe.data.tokens.recipe import (
    BY_ID,
    BY_WEIGHT,
    NORMALISED,
    ONES,
    QUANTILES,
    TOP,
    Recipe,
)
from vcpipe.data.tokens.truncation import Measured, count_absent, draw_absent, keep_some

NOT_MEASURED = Measured(*(np.zeros(0, dtype=kind) for kind in (np.int64, np.int32, np.int64)))


@dataclass(frozen=True)
class Collated:
    """Tokens as a model may see them, and what the hidden ones truly are."""

    starts: np.ndarray  # int64 [B + 1]: cell i has starts[i + 1] - starts[i] tokens
    genes: np.ndarray  # int32, [N] one cell after the other, or [B, T] padded
    values: np.ndarray  # float32, of the same shape, as the next
    chosen: np.ndarray  # bool: the tokens that are hidden and to be predicted
    target_genes: np.ndarray  # int32 [M], in the order of chosen
    target_values: np.ndarray  # float32 [M]
    keys: np.ndarray  # uint64 [B]

    def __len__(self) -> int:
        return len(self.keys)

    def padded(self, empty: Empty = np.empty, hidden_last: bool = False) -> dict[str, np.ndarray]:
        """The arrays by name, `real`, which is False at padding, and how to pack the real tokens.

        `places` of B × T are the real tokens, cell by cell from `starts` on, and `scored` are those
        of them that are chosen: said here, no device must be asked. With `hidden_last` the chosen
        ones of a cell come behind its `known`, whose number is given.
        """
        real_BT = empty(self.genes.shape, dtype=bool)
        np.less(np.arange(real_BT.shape[1]), np.diff(self.starts)[:, None], out=real_BT)
        starts = empty(self.starts.shape, dtype=np.int32)
        starts[:] = self.starts
        places = empty((int(self.starts[-1]),), dtype=np.int64)
        scored = empty(self.target_genes.shape, dtype=np.int64)
        known = (empty if hidden_last else np.empty)((len(self),), dtype=np.int32)
        _pack(self.starts, self.chosen, hidden_last, places, scored, known)
        made = {
            "genes": self.genes,
            "values": self.values,
            "real": real_BT,
            "chosen": self.chosen,
            "target_genes": self.target_genes,
            "target_values": self.target_values,
            "starts": starts,
            "places": places,
            "scored": scored,
        }
        return made | ({"known": known} if hidden_last else {})


@compiled
def _pack(starts, chosen_BT, hidden_last, places, scored, known) -> None:
    """Where each packed token lies when it is padded, and which packed ones are chosen."""
    num_scored = 0
    for row in range(len(known)):
        length, place = starts[row + 1] - starts[row], starts[row]
        first = row * chosen_BT.shape[1]
        for turn in range(2 if hidden_last else 1):
            for token in range(length):
                is_chosen = chosen_BT[row, token]
                if hidden_last and is_chosen != (turn == 1):
                    continue
                places[place] = first + token
                if is_chosen:
                    scored[num_scored] = place
                    num_scored += 1
                place += 1
            if turn == 0:
                known[row] = place - starts[row]


def collate(
    cells: Cells,
    chosen: np.ndarray,
    keys: np.ndarray,
    recipe: Recipe,
    special: Specials,
    draw: Draw,
    *,
    hiding: Hiding = NOTHING,
    measured: Measured | None = None,
    is_padded: bool = False,
    empty: Empty = np.empty,
) -> Collated:
    """Tokens of the chosen cells; a cell's depend on (seed, epoch, its key), not on the others.

    `keys` name what is drawn for each of the chosen cells. `measured` is needed where undetected
    genes are asked for.
    """
    assert measured is not None or not recipe.most_absent, "undetected genes need measured ones"
    where = cells.first, cells.lengths, cells.ids, cells.counts, cells.totals
    named = chosen, keys, draw.seed, draw.epoch
    measured = measured or NOT_MEASURED
    lengths, absent_B, starts, hidden_starts = _measure(
        where, *named, recipe, hiding.ratios, measured
    )
    longest = int(np.max(lengths, initial=0))
    shape = (len(chosen), longest) if is_padded else (int(starts[-1]),)
    begin = np.arange(len(chosen) + 1) * longest if is_padded else starts
    made = Collated(
        starts,
        empty(shape, dtype=np.int32),
        empty(shape, dtype=np.float32),
        empty(shape, dtype=bool),
        empty(int(hidden_starts[-1]), dtype=np.int32),
        empty(int(hidden_starts[-1]), dtype=np.float32),
        keys,
    )
    _collate(
        *(where, *named, recipe, special, hiding, measured, absent_B),
        *(lengths, begin, made.genes.reshape(-1), made.values.reshape(-1)),
        *(made.chosen.reshape(-1), hidden_starts, made.target_genes, made.target_values),
    )
    return made


@compiled
def _measure(cells, chosen, keys, seed, epoch, recipe, ratios, measured):
    """How many tokens each cell has, undetected genes it lacks, and where they and theirs begin."""
    first, lengths, ids, _, _ = cells
    num_cells = len(chosen)
    tokens_B, absent_B = np.empty(num_cells, np.int64), np.zeros(num_cells, np.int64)
    starts, hidden_starts = np.zeros(num_cells + 1, np.int64), np.zeros(num_cells + 1, np.int64)
    for row in range(num_cells):
        cell = chosen[row]
        size = np.int64(lengths[cell])
        its = ids[first[cell] : first[cell] + size]
        num_absent = 0
        if recipe.most_absent:
            absent_B[row] = count_absent(its, _measured(measured, row))
            num_absent = min(absent_B[row], recipe.most_absent)
        if recipe.order == BY_WEIGHT:
            size = 0
            for gene in its:
                size += recipe.medians[gene] > 0
        num_genes = min(size, recipe.room - num_absent) + num_absent
        tokens_B[row] = num_genes + recipe.prepend_cls
        starts[row + 1] = starts[row] + tokens_B[row]
        wanted = num_hidden(num_genes, keys[row], seed, epoch, ratios)
        hidden_starts[row + 1] = hidden_starts[row] + wanted
    return tokens_B, absent_B, starts, hidden_starts


@compiled
def _measured(measured, row):
    dataset = measured.dataset_B[row]
    return measured.ids[measured.starts[dataset] : measured.starts[dataset + 1]]


class _Scratch(NamedTuple):
    """Room for one cell at a time."""

    ids: np.ndarray
    counts: np.ndarray
    weights: np.ndarray
    values: np.ndarray
    # Of distinct_counts, and what depends on them.
    codes: np.ndarray
    distinct: np.ndarray
    ends: np.ndarray
    table: np.ndarray
    values_of_codes: np.ndarray
    fewest: np.ndarray
    most: np.ndarray
    edges: np.ndarray
    entries: np.ndarray  # those that become tokens, in their order
    other: np.ndarray
    places: np.ndarray
    absent: np.ndarray  # undetected genes that become tokens


@compiled
def _scratch(size, recipe) -> _Scratch:
    return _Scratch(
        np.empty(size, np.int32),
        np.empty(size, np.uint32),
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(size, np.int32),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.zeros(SMALL, np.int32),
        np.empty(size, np.float32),
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(len(recipe.levels)),
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(max(size, DIGITS), np.int32),
        np.empty(recipe.most_absent, np.int32),
    )


@compiled
def _collate(
    cells,
    chosen,
    keys,
    seed,
    epoch,
    recipe,
    special,
    hiding,
    measured,
    absent_B,
    tokens_B,
    begin,
    genes,
    values,
    is_hidden,
    hidden_starts,
    target_genes,
    target_values,
) -> None:
    first, lengths, ids, counts, totals = cells
    longest = np.int64(0)
    for cell in chosen:
        longest = max(longest, np.int64(lengths[cell]))
    scratch = _scratch(longest, recipe)
    for row in range(len(chosen)):
        cell, key = chosen[row], keys[row]
        its = slice(first[cell], first[cell] + np.int64(lengths[cell]))
        num_absent = min(absent_B[row], recipe.most_absent)
        if num_absent:
            state = stream(seed, epoch, ABSENT, key)
            genes_of_it = _measured(measured, row)
            draw_absent(ids[its], genes_of_it, absent_B[row], num_absent, state, scratch.absent)
        size = _take(ids[its], counts[its], recipe, scratch)
        room = min(size, recipe.room - num_absent)
        size, num = _order(size, room, recipe, seed, epoch, key, scratch)
        _evaluate(size, num, totals[cell], recipe, seed, epoch, key, scratch)
        place, stop, end = begin[row], begin[row] + tokens_B[row], begin[row + 1]
        genes_T, values_T, chosen_T = genes[place:stop], values[place:stop], is_hidden[place:stop]
        _lay(room, num_absent, recipe, special, seed, epoch, key, scratch, genes_T, values_T)
        targets = slice(hidden_starts[row], hidden_starts[row + 1])
        if targets.stop > targets.start:
            choose(recipe.prepend_cls, targets.stop - targets.start, key, seed, epoch, chosen_T)
            hide(
                *(hiding, special, key, seed, epoch, chosen_T, genes_T, values_T),
                *(target_genes[targets], target_values[targets]),
            )
        else:
            chosen_T[:] = False
        genes[stop:end], values[stop:end] = special.pad_id, special.pad_value
        is_hidden[stop:end] = False


@compiled
def _take(ids, counts, recipe, scratch) -> int:
    """Copy a cell; where they are ranked by weight, only the genes that have one. How many."""
    copy_numbers(ids, scratch.ids)
    copy_numbers(counts, scratch.counts)
    if recipe.order != BY_WEIGHT:
        return len(ids)
    num = 0
    for entry in range(len(ids)):
        median = recipe.medians[ids[entry]]
        if median > 0:
            scratch.ids[num], scratch.counts[num] = ids[entry], counts[entry]
            scratch.weights[num] = np.float64(counts[entry]) / median
            num += 1
    return num


@compiled
def _order(size, room, recipe, seed, epoch, key, scratch):
    """Find the entries that become tokens; how many entries and distinct counts are left."""
    ids, counts, weights, entries = scratch.ids, scratch.counts, scratch.weights, scratch.entries
    num = _distinct(size, scratch)
    is_ranked = recipe.order != BY_ID
    is_cut = room < size and recipe.truncation != TOP
    if is_cut or not is_ranked:
        state = stream(seed, epoch, KEPT, key)
        codes = scratch.codes[:size]
        keep_some(recipe.truncation, codes, scratch.ends, num, room, state, entries)
    if is_cut and is_ranked:
        for place in range(room):
            entry = entries[place]
            ids[place], counts[place], weights[place] = ids[entry], counts[entry], weights[entry]
        size, num = room, _distinct(room, scratch)
    state = stream(seed, epoch, RANK_TIES, key)
    if recipe.order == BY_WEIGHT:
        rank_weights(weights[:size], state, scratch.places, scratch.other, entries)
    elif is_ranked:
        codes = scratch.codes[:size]
        rank_counts(codes, scratch.ends, num, room, state, scratch.places, entries)
    return size, num


@compiled
def _distinct(size, scratch) -> int:
    counts, codes = scratch.counts[:size], scratch.codes[:size]
    return distinct_counts(counts, codes, scratch.distinct, scratch.ends, scratch.table)


@compiled
def _evaluate(size, num, total, recipe, seed, epoch, key, scratch) -> None:
    """The value of each entry: what depends on a count is worked out once for equal ones."""
    codes, values, of_codes = scratch.codes[:size], scratch.values[:size], scratch.values_of_codes
    distinct, fewest, most = scratch.distinct, scratch.fewest, scratch.most
    scale = cell_scale(total, recipe.target_sum)
    if recipe.values == ONES or size == 0:
        values[:] = 1
        return
    if recipe.values == NORMALISED:
        for code in range(num):
            of_codes[code] = normalised(distinct[code], scale, recipe.log1p)
        for entry in range(size):
            values[entry] = of_codes[codes[entry]]
        return
    if recipe.values == QUANTILES:
        quantile_digits(distinct, scratch.ends, num, recipe.levels, scratch.edges, fewest, most)
    else:
        edge_digits(
            *(distinct, num, scale, recipe.log1p, recipe.edges, recipe.lowest_bin),
            *(of_codes, fewest, most),
        )
    state = stream(seed, epoch, BIN_TIES, key)
    ids = scratch.ids[:size]
    look_up(codes, ids, num, fewest, most, MIDDLE, state, recipe.draws_ties, values)


@compiled
def _lay(room, num_absent, recipe, special, seed, epoch, key, scratch, genes, values) -> None:
    """<cls>, then detected and undetected genes together by id, or these behind those."""
    if recipe.prepend_cls:
        genes[0], values[0] = special.cls_id, special.cls_value
        genes, values = genes[1:], values[1:]
    entries, absent = scratch.entries[:room], scratch.absent[:num_absent]
    if recipe.order == BY_ID and num_absent:
        _merge(scratch.ids, scratch.values, entries, absent, genes, values)
        return
    _append(scratch.ids, scratch.values, entries, genes, values)
    shuffle(absent, 0, num_absent, num_absent, stream(seed, epoch, ABSENT_ORDER, key))
    copy_numbers(absent, genes[room:])
    values[room:] = 0


@compiled
def _append(ids, values_N, entries, genes, values) -> None:
    for place in range(len(entries)):
        genes[place] = ids[np.uint64(entries[place])]
    for place in range(len(entries)):
        values[place] = values_N[np.uint64(entries[place])]


@compiled
def _merge(ids, values_N, entries, absent, genes, values) -> None:
    place = other = 0
    for entry in entries:
        gene = ids[entry]
        while other < len(absent) and absent[other] < gene:
            genes[place], values[place] = absent[other], 0
            place, other = place + 1, other + 1
        genes[place], values[place] = gene, values_N[entry]
        place += 1
    while other < len(absent):
        genes[place], values[place] = absent[other], 0
        place, other = place + 1, other + 1
