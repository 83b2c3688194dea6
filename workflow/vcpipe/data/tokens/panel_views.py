"""Two views of a cell: its detected genes on each of two panels, by rank (scConcept)."""

# B cells, N detected genes of all of them

from collections.abc import Sequence

import numpy as np

from vcpipe.config.tokens import Panels
from vcpipe.data.cell_keys import fraction, stream
from vcpipe.data.distinct_counts import SMALL, distinct_counts, longest_row
from vcpipe.data.draws import Draw, is_taken, shuffle
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.packing import Specials, Tokens, starts_of
from vcpipe.data.tokens.panels import PanelPair

# `purpose` of cell_keys.stream, of the first view; those of the second are SECOND more.
LEFT_OUT, VIEW_TIES, SECOND = 221, 222, 2
# Marks of genes.
ON_FIRST, ON_SECOND = 1, 2
# Place of the share in LEFT_OUT; the genes' own begin behind it.
SHARE = 0


def two_views(
    rows: Rows,
    values_N: np.ndarray,
    pairs: Sequence[PanelPair],
    pair_of: np.ndarray,
    num_genes: int,
    config: Panels,
    special: Specials,
    draw: Draw,
) -> tuple[Tokens, Tokens]:
    """Tokens of both views; cell i has the panels pairs[pair_of[i]].

    Genes come by count, largest first, equal ones in a drawn order and never by id. What is drawn
    depends on the draw and the cell's key alone. `num_genes` is the size of the vocabulary.
    """
    assert len(values_N) == len(rows.ids)
    panels = _joined([pair.first for pair in pairs]), _joined([pair.second for pair in pairs])
    largest = max(genes.max(initial=0) for genes in (rows.ids, panels[0][1], panels[1][1]))
    assert largest < num_genes
    most = int(np.minimum(np.diff(rows.starts) + 1, config.max_tokens).sum())
    views = [
        (np.zeros(len(rows) + 1, np.int64), np.empty(most, np.int32), np.empty(most, np.float32))
        for _ in panels
    ]
    _rank_on_panels(
        *(rows.starts, rows.ids, rows.counts, values_N, rows.keys),
        *(*panels, np.ascontiguousarray(pair_of, np.int64), np.zeros(num_genes, np.uint8)),
        *(config.feature_max_drop_rate, config.max_tokens, special.cls_id, special.cls_value),
        *(draw.seed, draw.epoch, *views),
    )
    first, second = (
        Tokens(starts, genes[: starts[-1]], values[: starts[-1]], rows.keys)
        for starts, genes, values in views
    )
    return first, second


def is_empty(view: Tokens) -> np.ndarray:
    """bool [B]: cells without a gene on the panel, of which only <cls> is left."""
    return np.diff(view.starts) == 1


def _joined(panels: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return starts_of(np.array([len(panel) for panel in panels])), np.concatenate(panels)


@compiled
def _rank_on_panels(
    starts,
    ids,
    counts,
    values_N,
    keys,
    first_panels,
    second_panels,
    pair_of,
    marks,
    max_drop_rate,
    max_tokens,
    cls_id,
    cls_value,
    seed,
    epoch,
    first_view,
    second_view,
) -> None:
    longest = longest_row(starts)
    # One place more: an entry on no panel is written over by the next.
    firsts, seconds = np.empty(longest + 1, np.int64), np.empty(longest + 1, np.int64)
    scratch = (
        np.empty(longest, np.uint32),
        np.empty(longest, np.int32),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        np.zeros(SMALL, np.int32),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
    )
    present = -1
    for cell in range(len(keys)):
        if pair_of[cell] != present:
            present = pair_of[cell]
            marks[:] = 0
            _mark(marks, first_panels, present, ON_FIRST)
            _mark(marks, second_panels, present, ON_SECOND)
        nums = _members(ids, starts[cell], starts[cell + 1], marks, firsts, seconds)
        for entries, num, more, view in (
            (firsts, nums[0], 0, first_view),
            (seconds, nums[1], SECOND, second_view),
        ):
            if max_drop_rate > 0:
                state = stream(seed, epoch, LEFT_OUT + more, keys[cell])
                num = _leave_out(entries, num, max_drop_rate, state)
            state = stream(seed, epoch, VIEW_TIES + more, keys[cell])
            room = min(num, max_tokens - 1)
            order = _rank(counts, entries, num, room, state, scratch)
            out_starts, genes, values = view
            place = out_starts[cell]
            genes[place], values[place] = cls_id, cls_value
            for at in range(room):
                entry = np.uint64(order[at])
                genes[place + 1 + at] = ids[entry]
                values[place + 1 + at] = values_N[entry]
            out_starts[cell + 1] = place + 1 + room


@compiled
def _mark(marks, panels, which, mark) -> None:
    starts, genes = panels
    for gene in genes[starts[which] : starts[which + 1]]:
        marks[gene] |= mark


@compiled
def _members(ids, first, last, marks, firsts, seconds) -> tuple[int, int]:
    """Entries whose gene is on the one and on the other panel, and how many of each."""
    on_first = on_second = np.uint64(0)
    for entry in range(first, last):
        # Written over by the next where it is none: no branch, because none could be foreseen.
        firsts[on_first] = seconds[on_second] = entry
        mark = np.uint64(marks[np.uint64(ids[entry])])
        on_first += mark & np.uint64(ON_FIRST)
        on_second += mark >> np.uint64(1)
    return int(on_first), int(on_second)


@compiled
def _rank(counts, entries, num, room, state, scratch):
    """Entries by count, largest first, equal ones in a drawn order as far as `room` goes."""
    its_counts, codes, ends, distinct, table, places, order = scratch
    for at in range(num):
        its_counts[at] = counts[np.uint64(entries[at])]
    num_distinct = distinct_counts(its_counts[:num], codes, distinct, ends, table)
    for code in range(num_distinct):
        places[code] = num - ends[code]
    for at in range(num):
        code = np.uint64(codes[at])
        place = places[code]
        places[code] = place + 1
        order[np.uint64(place)] = entries[at]
    for code in range(num_distinct - 1, -1, -1):
        first = num - ends[code]
        if first >= room:
            break
        shuffle(order, first, places[code], room - first, state)
    return order


@compiled
def _leave_out(entries, num, max_drop_rate, state) -> int:
    """Keep a drawn share of the entries, in their order; return their number."""
    kept = num - int(fraction(state, SHARE) * max_drop_rate * num)
    place = 0
    for at in range(num):
        if is_taken(state, 1 + at, kept - place, num - at):
            entries[place] = entries[at]
            place += 1
    return kept
