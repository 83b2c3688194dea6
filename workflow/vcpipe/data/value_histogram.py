"""Histograms of each gene's values, from which medians and quantiles are read.

All values of millions of cells cannot be held, so they are counted in bins of equal relative width:
the first 6 bits of a number after its leading one. A quantile is right to that width: 1/64 of it.
Counts are whole numbers, so neither the order of cells nor of files changes a bin.
"""

# G genes, N bins

import numpy as np
import scipy.sparse as sp

from vcpipe.data.sparse_rows import SMALL, compiled

PRECISION = 6  # bits, in which a bin's values agree
OCTAVES = 24
NUM_BINS = (OCTAVES << PRECISION) + 1
RELATIVE_WIDTH = 2.0**-PRECISION


def empty_histograms(num_genes: int) -> np.ndarray:
    """6 KB for each gene."""
    return np.zeros((num_genes, NUM_BINS), dtype=np.uint32)


def add_values(
    histograms_GN: np.ndarray,
    counts: sp.csr_matrix,
    totals: np.ndarray,
    place: np.ndarray,
    kept: np.ndarray,
    share: bool,
) -> None:
    """Count the values of the kept rows: their counts, or shares of the row's total.

    `place` is the histogram's row of every column, or -1. Shares are at least 2**-24 and counts at
    most 2**24; what lies beyond goes to the last bin.
    """
    rows = (counts.indptr, counts.indices, counts.data)
    _add(histograms_GN, *rows, totals, place, kept, share, lowest(share))


def lowest(share: bool) -> int:
    """The power of two where the first bin begins."""
    return -OCTAVES if share else 0


@compiled
def _bin_of(value: float, low: int) -> int:
    # The bits of a float64: sign, 11 of the exponent + 1023, 52 after the leading one.
    bits = np.float64(value).view(np.int64) >> (52 - PRECISION)
    number = bits - ((1023 + low) << PRECISION)
    return min(max(number, 0), NUM_BINS - 1)


@compiled
def _add(histograms, indptr, indices, counts, totals, place, kept, share, low) -> None:
    small = np.zeros(SMALL, dtype=np.int64)
    flat = histograms.reshape(-1)
    where = np.empty(np.max(np.diff(indptr)) if len(indptr) > 1 else 0, dtype=np.uint64)
    for row in range(len(indptr) - 1):
        if not kept[row]:
            continue
        total = np.float64(totals[row]) if share else 1.0
        for count in range(1, SMALL):
            small[count] = _bin_of(count / total, low)
        # First where, then add: memory answers many additions at a time if nothing else waits for
        # it. In one loop it takes twice as long.
        num = 0
        for entry in range(indptr[row], indptr[row + 1]):
            gene, count = np.int64(place[indices[entry]]), counts[entry]
            number = small[int(count)] if count < SMALL else _bin_of(count / total, low)
            where[num] = gene * NUM_BINS + number
            num += gene >= 0
        for entry in range(num):
            flat[where[entry]] += np.uint32(1)


def quantiles(histogram_N: np.ndarray, at: np.ndarray, share: bool) -> np.ndarray:
    """Quantiles as numpy's (linear), of values that lie evenly within their bins.

    `share` says what was counted, as in add_values: counts are whole numbers and stay such. The
    first and the last quantile, 0 and 1, are ends of bins: no value that was counted lies outside.
    """
    ends = np.cumsum(histogram_N, dtype=np.int64)
    position = np.asarray(at) * (ends[-1] - 1)
    below = np.floor(position).astype(np.int64)
    values = []
    for rank in (below, np.minimum(below + 1, ends[-1] - 1)):
        number = np.searchsorted(ends, rank, side="right")
        start = np.where(number > 0, ends[number - 1], 0)
        values.append(_value(number, rank - start, ends[number] - start, share))
    found = values[0] + (position - below) * (values[1] - values[0])
    bins = np.flatnonzero(histogram_N)
    first, last = _edges(bins[[0]], share)[0], _edges(bins[[-1]], share)[1]
    found = np.where(np.asarray(at) == 0, first, found)
    return np.where(np.asarray(at) == 1, last, found)


def medians(histograms_GN: np.ndarray, share: bool) -> np.ndarray:
    """The median of each gene's values, NaN where it has none."""
    num_G = histograms_GN.sum(axis=1, dtype=np.int64)
    seen = num_G > 0
    middle = np.zeros(seen.sum())
    # Of an even number the mean of the two in the middle.
    for rank_G in ((num_G - 1) // 2, num_G // 2):
        number, within, count = (its[seen] for its in _find(histograms_GN, rank_G))
        middle += _value(number, within, count, share) / 2
    found = np.full(len(num_G), np.nan)
    found[seen] = middle
    return found


@compiled
def _find(histograms, ranks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bin of a rank of each row, the rank within it, and how many values it holds."""
    found = np.zeros((3, len(ranks)), dtype=np.int64)
    for row in range(len(ranks)):
        left = ranks[row]
        for number in range(histograms.shape[1]):
            count = np.int64(histograms[row, number])
            if left < count:
                found[0, row], found[1, row], found[2, row] = number, left, count
                break
            left -= count
    return found[0], found[1], found[2]


def _value(number: np.ndarray, within: np.ndarray, count: np.ndarray, share: bool) -> np.ndarray:
    """The value of a rank within a bin of so many, which lie evenly."""
    first, last = _edges(number, share)
    return first + (last - first) * (within + 0.5) / count


def _edges(number: np.ndarray, share: bool) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest value of a bin."""
    first, end = (
        np.ldexp(
            1 + (place & ((1 << PRECISION) - 1)) * RELATIVE_WIDTH,
            (place >> PRECISION) + lowest(share),
        )
        for place in (number, number + 1)
    )
    if share:
        return first, np.minimum(end, 1.0)
    first = np.ceil(first)
    return first, np.maximum(np.ceil(end) - 1, first)
