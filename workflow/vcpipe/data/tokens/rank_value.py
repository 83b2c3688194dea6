"""Genes in the order of their expression, largest first; ties in a drawn order, never by id."""

# B cells

import numpy as np

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.cell_keys import stream
from vcpipe.data.distinct_counts import SMALL, distinct_counts, longest_row
from vcpipe.data.draws import ABSENT_ORDER, RANK_TIES, Draw, shuffle
from vcpipe.data.normalised_values import normalised_values
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.packing import Entries, Specials, Tokens, pack_in_order, starts_of
from vcpipe.data.tokens.truncation import Measured, absent_genes, kept_entries, room_for_genes

# Three digits of 11 bits hold the 32 of a float.
BITS_OF_DIGIT = 11
DIGITS = 2**BITS_OF_DIGIT


def rank_value(
    rows: Rows,
    special: Specials,
    config: Tokenizer,
    fitted: Fitted,
    measured: Measured | None,
    draw: Draw,
) -> Tokens:
    """Values are normalised values, whatever the genes are ranked by; undetected genes come last.

    Neither normalisation nor a logarithm changes the order of a cell's genes, so counts are ranked.
    """
    absent = absent_genes(rows, config, measured, draw)
    room_B = room_for_genes(config) - np.diff(absent.starts)
    if config.rank_normalization == "gene_median":
        rows, weight_N = _with_medians(rows, fitted.gene_medians)
    if config.truncation != "top_value":
        kept = kept_entries(rows, config.truncation, room_B, draw)
        if config.rank_normalization == "gene_median":
            weight_N = weight_N[kept.entries]
        rows = _only(rows, kept.starts, kept.entries)
    starts = starts_of(np.minimum(np.diff(rows.starts), room_B))
    ranked = np.empty(starts[-1], dtype=np.int64)
    where = (rows.starts, rows.keys, draw.seed, draw.epoch, starts, ranked)
    if config.rank_normalization == "gene_median":
        _rank_weights(weight_N, *where)
    else:
        _rank_counts(rows.counts, *where)
    _shuffle_absent(absent.starts, absent.ids, rows.keys, draw.seed, draw.epoch)
    values_N = normalised_values(rows, fitted.fit)
    entries = Entries(starts, ranked)
    return pack_in_order(rows, entries, values_N, absent, special, config.prepend_cls)


def _with_medians(rows: Rows, gene_medians: np.ndarray | None) -> tuple[Rows, np.ndarray]:
    """Genes that training cells had, and their counts over their medians.

    A gene without a median has no place in the order, so it is no token (Geneformer's rule).
    """
    assert gene_medians is not None, "rank_normalization gene_median needs fitted medians"
    medians_N = gene_medians[rows.ids]
    is_known = medians_N > 0
    entries = np.flatnonzero(is_known)
    starts = np.concatenate([[0], np.cumsum(is_known)])[rows.starts]
    rows = _only(rows, starts, entries)
    return rows, (rows.counts / medians_N[entries]).astype(np.float32)


def _only(rows: Rows, starts: np.ndarray, entries: np.ndarray) -> Rows:
    return Rows(starts, rows.ids[entries], rows.counts[entries], rows.totals, rows.keys)


@compiled
def _rank_counts(counts, starts, keys, seed, epoch, out_starts, out) -> None:
    """Counting sort, largest first, then the order of equal ones is drawn as far as it is seen."""
    longest = longest_row(starts)
    codes, ends = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=np.int64)
    distinct, order = np.empty(longest, dtype=np.int64), np.empty(longest, dtype=np.int64)
    table, places = np.zeros(SMALL, dtype=np.int32), np.empty(longest, dtype=np.int64)
    for row in range(len(starts) - 1):
        first, last = starts[row], starts[row + 1]
        size, room = last - first, out_starts[row + 1] - out_starts[row]
        num = distinct_counts(counts[first:last], codes, distinct, ends, table)
        for code in range(num):
            places[code] = size - ends[code]
        for entry in range(size):
            code = codes[entry]
            order[places[code]] = first + entry
            places[code] += 1
        state = stream(seed, epoch, RANK_TIES, keys[row])
        for code in range(num - 1, -1, -1):
            begin, stop = size - ends[code], places[code]
            if begin >= room:
                break
            shuffle(order, begin, stop, room - begin, state)
        out[out_starts[row] : out_starts[row + 1]] = order[:room]


@compiled
def _rank_weights(weights, starts, keys, seed, epoch, out_starts, out) -> None:
    """Largest first; equal ones in the order of a shuffle, which the sort leaves as it is."""
    longest = longest_row(starts)
    order, other = np.empty(longest, dtype=np.int64), np.empty(longest, dtype=np.int64)
    # Bits of positive floats ascend as they do.
    bits = weights.view(np.uint32)
    places = np.empty(DIGITS, dtype=np.int64)
    for row in range(len(starts) - 1):
        size = starts[row + 1] - starts[row]
        for entry in range(size):
            order[entry] = starts[row] + entry
        shuffle(order, 0, size, size, stream(seed, epoch, RANK_TIES, keys[row]))
        for digit in range(3):
            _sort_by_digit(bits, digit, order[:size], places, other)
            order, other = other, order
        out[out_starts[row] : out_starts[row + 1]] = order[: out_starts[row + 1] - out_starts[row]]


@compiled
def _sort_by_digit(bits, digit, order, places, out) -> None:
    """One pass of a radix sort, largest digit first, equal ones in the order they have."""
    shift = np.uint32(BITS_OF_DIGIT * digit)
    places[:] = 0
    for entry in order:
        places[(bits[entry] >> shift) & np.uint32(DIGITS - 1)] += 1
    begin = 0
    for value in range(DIGITS - 1, -1, -1):
        places[value], begin = begin, begin + places[value]
    for entry in order:
        value = (bits[entry] >> shift) & np.uint32(DIGITS - 1)
        out[places[value]] = entry
        places[value] += 1


@compiled
def _shuffle_absent(starts, ids, keys, seed, epoch) -> None:
    for row in range(len(starts) - 1):
        size = starts[row + 1] - starts[row]
        state = stream(seed, epoch, ABSENT_ORDER, keys[row])
        shuffle(ids[starts[row] : starts[row + 1]], 0, size, size, state)
