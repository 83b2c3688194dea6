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
    panels = [pair.first for pair in pairs], [pair.second for pair in pairs]
    first, second = (
        _view(rows, values_N, its, pair_of, num_genes, config, special, draw, more)
        for its, more in zip(panels, (0, SECOND), strict=True)
    )
    return first, second


def is_empty(view: Tokens) -> np.ndarray:
    """bool [B]: cells without a gene on the panel, of which only <cls> is left."""
    return np.diff(view.starts) == 1


def _view(
    rows: Rows,
    values_N: np.ndarray,
    panels: list[np.ndarray],
    panel_of: np.ndarray,
    num_genes: int,
    config: Panels,
    special: Specials,
    draw: Draw,
    more: int,
) -> Tokens:
    assert len(values_N) == len(rows.ids)
    on_panel = np.concatenate(panels)
    assert max(rows.ids.max(initial=0), on_panel.max(initial=0)) < num_genes
    most = int(np.minimum(np.diff(rows.starts) + 1, config.max_tokens).sum())
    starts = np.zeros(len(rows) + 1, np.int64)
    genes, values = np.empty(most, np.int32), np.empty(most, np.float32)
    _rank_on_panels(
        *(rows.starts, rows.ids, rows.counts, values_N, rows.keys),
        *(starts_of(np.array([len(panel) for panel in panels])), on_panel),
        *(np.ascontiguousarray(panel_of, np.int64), np.zeros(num_genes, np.uint8)),
        *(config.feature_max_drop_rate, config.max_tokens, special.cls_id, special.cls_value),
        *(draw.seed, draw.epoch, more, starts, genes, values),
    )
    return Tokens(starts, genes[: starts[-1]], values[: starts[-1]], rows.keys)


@compiled
def _rank_on_panels(
    starts,
    ids,
    counts,
    values_N,
    keys,
    panel_starts,
    on_panel,
    panel_of,
    is_member,
    max_drop_rate,
    max_tokens,
    cls_id,
    cls_value,
    seed,
    epoch,
    more,
    out_starts,
    genes,
    values,
) -> None:
    longest = longest_row(starts)
    entries, its_counts = np.empty(longest, np.int64), np.empty(longest, np.uint32)
    codes, ends = np.empty(longest, np.int32), np.empty(longest, np.int64)
    distinct, table = np.empty(longest, np.int64), np.zeros(SMALL, np.int32)
    places, order = np.empty(longest, np.int64), np.empty(longest, np.int64)
    present = -1
    for cell in range(len(keys)):
        if panel_of[cell] != present:
            is_member[:] = 0
            present = panel_of[cell]
            for gene in on_panel[panel_starts[present] : panel_starts[present + 1]]:
                is_member[gene] = 1
        num = _members(ids, starts[cell], starts[cell + 1], is_member, entries)
        if max_drop_rate > 0:
            num = _leave_out(
                entries, num, max_drop_rate, stream(seed, epoch, LEFT_OUT + more, keys[cell])
            )
        for at in range(num):
            its_counts[at] = counts[np.uint64(entries[at])]
        num_distinct = distinct_counts(its_counts[:num], codes, distinct, ends, table)
        for code in range(num_distinct):
            places[code] = num - ends[code]
        for at in range(num):
            code = np.uint64(codes[at])
            order[np.uint64(places[code])] = entries[at]
            places[code] += 1
        room = min(num, max_tokens - 1)
        state = stream(seed, epoch, VIEW_TIES + more, keys[cell])
        for code in range(num_distinct - 1, -1, -1):
            first = num - ends[code]
            if first >= room:
                break
            shuffle(order, first, places[code], room - first, state)
        place = out_starts[cell]
        genes[place], values[place] = cls_id, cls_value
        for at in range(room):
            entry = np.uint64(order[at])
            genes[place + 1 + at] = ids[entry]
            values[place + 1 + at] = values_N[entry]
        out_starts[cell + 1] = place + 1 + room


@compiled
def _members(ids, first, last, is_member, entries) -> int:
    """Entries whose gene is on the panel, and how many."""
    num = np.uint64(0)
    for entry in range(first, last):
        # Written over by the next where it is none: no branch, because none could be foreseen.
        entries[num] = entry
        num += np.uint64(is_member[np.uint64(ids[entry])])
    return int(num)


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
