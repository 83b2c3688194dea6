"""Values -> bins: at a cell's own quantiles as scGPT does it, at given edges, or evenly spaced.

A value that equals several edges (tied counts) belongs to several bins. scGPT draws one of them
from the global generator, so its bins change from run to run; ours takes the middle one, or draws
by (seed, epoch, cell, gene). The middle is what scGPT would take for a drawn number of 0.5.

Bins of a cell do not depend on a monotone transform: counts and their normalised logarithms give
the same ones, up to rounding of an edge that falls on a value.
"""

# B cells, N detected features of all of them

import numpy as np

from vcpipe.data.cell_keys import fraction, stream
from vcpipe.data.distinct_counts import SMALL, distinct_counts, longest_row
from vcpipe.data.draws import BIN_TIES, Draw
from vcpipe.data.normalised_values import normalised
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled

MIDDLE = np.full(1, 0.5)


def bin_cell(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Bin one cell's non-zero values at its own quantiles; bins run from 1 to n_bins - 1.

    >>> bin_cell(np.array([1.0, 5.0, 9.0]), 5).tolist()
    [1, 2, 4]
    """
    return bin_values(values, n_bins).astype(np.uint8 if n_bins <= 256 else np.uint16)


def bin_values(values: np.ndarray, n_bins: int, uniforms: np.ndarray = MIDDLE) -> np.ndarray:
    """The same of floats, in their own precision as numpy does, with scGPT's drawn numbers.

    `uniforms` are one number for all values, or one for each, at least 0 and below 1.
    """
    bins = np.empty(len(values), dtype=np.uint16)
    values = np.ascontiguousarray(values)
    _value_bins(values, np.argsort(values), quantile_levels(n_bins), uniforms, bins)
    return bins


def quantile_bins(
    rows: Rows,
    n_bins: int,
    uniforms: np.ndarray = MIDDLE,
    draw: Draw | None = None,
) -> np.ndarray:
    """uint16 [N] bins 1..n_bins - 1 at each cell's own quantiles; bin 0 is for zero counts.

    Ties by `uniforms` (one number, or one for each entry), or drawn.
    """
    bins = np.empty(len(rows.ids), dtype=np.uint16)
    seed, epoch = (draw.seed, draw.epoch) if draw else (0, 0)
    _quantile_bins(
        *(rows.starts, rows.ids, rows.counts, rows.keys, quantile_levels(n_bins)),
        *(uniforms, draw is not None, seed, epoch, bins),
    )
    return bins


def uniform_edges(n_bins: int, value_max: float) -> np.ndarray:
    return np.linspace(0.0, value_max, n_bins + 1)


def uniform_value_bins(values: np.ndarray, n_bins: int, value_max: float) -> np.ndarray:
    """The same of float32 values."""
    inner = inner_edges(uniform_edges(n_bins, value_max))
    return np.searchsorted(inner, values, side="left").astype(np.uint16)


def quantile_levels(n_bins: int) -> np.ndarray:
    return np.linspace(0, 1, n_bins - 1)


def inner_edges(edges: np.ndarray) -> np.ndarray:
    # Edges are compared in the precision of values, as torch.bucketize does for scModelForge.
    return np.ascontiguousarray(edges[1:-1], dtype=np.float32)


@compiled
def _drawn(uniform, fewest, most):
    """scGPT's formula: of the bins above `fewest` up to `most`; `most` where they are equal."""
    return int(np.ceil(uniform * (fewest - most) + most))


@compiled
def _quantile_edges(distinct, ends, num, levels, edges) -> None:
    """np.quantile of sorted values, linear, rounded as numpy rounds."""
    at = 0
    for edge in range(len(levels)):
        place = (ends[num - 1] - 1) * levels[edge]
        below = int(np.floor(place))
        while ends[at] <= below:
            at += 1
        here = distinct[at]
        after = here
        if below + 1 >= ends[at] and at + 1 < num:
            after = distinct[at + 1]
        step, part = after - here, place - below
        if part >= 0.5:
            edges[edge] = after - step * (1 - part)
        else:
            edges[edge] = here + step * part


@compiled
def _digits_at_edges(distinct, num, edges, fewest, most) -> None:
    """How many edges lie below each distinct value, and how many at it or below."""
    low = high = 0
    for code in range(num):
        value = distinct[code]
        while low < len(edges) and edges[low] < value:
            low += 1
        high = max(high, low)
        while high < len(edges) and edges[high] <= value:
            high += 1
        fewest[code], most[code] = low, high


@compiled
def look_up(codes, ids, num, fewest, most, uniforms, state, is_drawn, bins) -> None:
    """Bins of a cell's entries from the digits of its distinct values."""
    if is_drawn:
        for entry in range(len(codes)):
            low, high = fewest[codes[entry]], most[codes[entry]]
            bins[entry] = high
            if high > low + 1:
                bins[entry] = _drawn(fraction(state, ids[entry]), low, high)
    elif len(uniforms) == 1:
        for code in range(num):
            most[code] = _drawn(uniforms[0], fewest[code], most[code])
        for entry in range(len(codes)):
            bins[entry] = most[codes[entry]]
    else:
        span, top = fewest[:num].astype(np.float64), most[:num].astype(np.float64)
        span -= top
        for entry in range(len(codes)):
            code = codes[entry]
            bins[entry] = int(np.ceil(uniforms[entry] * span[code] + top[code]))


@compiled
def quantile_digits(distinct, ends, num, levels, edges, fewest, most) -> None:
    """The lowest and the highest bin of each distinct count, at the cell's own quantiles."""
    _quantile_edges(distinct, ends, num, levels, edges)
    _digits_at_edges(distinct, num, edges, fewest, most)


@compiled
def edge_digits(distinct, num, scale, log1p, inner, lowest, values, fewest, most) -> None:
    """The same at given edges, of normalised values; bins begin at `lowest`."""
    for code in range(num):
        values[code] = normalised(distinct[code], scale, log1p)
    _digits_at_edges(values, num, inner, fewest, most)
    for code in range(num):
        # A value at one edge belongs below it; at several, to the bins between them.
        first_bin = fewest[code] + lowest
        most[code] = max(first_bin, most[code] if lowest else first_bin)
        fewest[code] = first_bin - 1


@compiled
def _quantile_bins(
    starts, ids, counts, keys, levels, uniforms, is_drawn, seed, epoch, bins
) -> None:
    longest = longest_row(starts)
    codes, ends = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=np.int64)
    distinct, edges = np.empty(longest, dtype=np.int64), np.empty(len(levels))
    fewest, most = np.empty(longest, dtype=np.int32), np.empty(longest, dtype=np.int32)
    table = np.zeros(SMALL, dtype=np.int32)
    for row in range(len(starts) - 1):
        first, last = starts[row], starts[row + 1]
        if first == last:
            continue
        cell = codes[: last - first]
        num = distinct_counts(counts[first:last], cell, distinct, ends, table)
        quantile_digits(distinct, ends, num, levels, edges, fewest, most)
        state = stream(seed, epoch, BIN_TIES, keys[row])
        its = uniforms if len(uniforms) == 1 else uniforms[first:last]
        look_up(cell, ids[first:last], num, fewest, most, its, state, is_drawn, bins[first:last])


@compiled
def _value_bins(values, order, levels, uniforms, bins) -> None:
    """One cell of floats: `order` sorts them."""
    if len(values) == 0:
        return
    codes, ends = np.empty(len(values), dtype=np.int32), np.empty(len(values), dtype=np.int64)
    distinct = np.empty(len(values), dtype=values.dtype)
    num = 0
    for place in range(len(order)):
        value = values[order[place]]
        if place == 0 or value != distinct[num - 1]:
            distinct[num] = value
            num += 1
        ends[num - 1] = place + 1
        codes[order[place]] = num - 1
    edges = np.empty(len(levels))
    fewest, most = np.empty(num, dtype=np.int32), np.empty(num, dtype=np.int32)
    _quantile_edges(distinct, ends, num, levels, edges)
    _digits_at_edges(distinct, num, edges, fewest, most)
    look_up(codes, codes, num, fewest, most, uniforms, np.uint64(0), False, bins)
