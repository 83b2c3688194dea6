"""The distinct counts of a cell: few, so that what depends on a count is worked out once for each.

A cell with 8,000 detected genes has a hundred or so. Its bins, its normalised values and its order
by expression are tables over them, filled once and looked up per gene.
"""

import numpy as np

from vcpipe.data.sparse_rows import compiled

# Smaller counts are sorted by counting them, the few others as numbers are.
SMALL = 1024


@compiled
def distinct_counts(counts, codes, distinct, ends, table) -> int:
    """Sort a cell's counts: distinct[codes[i]] is counts[i], and ends[c] counts are at most
    distinct[c].

    `table` is of SMALL zeros, and is left so.
    """
    largest = num_large = 0
    for entry in range(len(counts)):
        count = counts[entry]
        if count < SMALL:
            table[count] += 1
            largest = max(largest, count)
        else:
            num_large += 1
    num = seen = 0
    for count in range(largest + 1):
        if table[count]:
            seen += table[count]
            distinct[num], ends[num] = count, seen
            table[count] = num
            num += 1
    if num_large:
        num = _add_large(counts, num_large, num, seen, distinct, ends)
        _look_up_large(counts, codes, distinct, num)
    for entry in range(len(counts)):
        if counts[entry] < SMALL:
            codes[entry] = table[counts[entry]]
    table[: largest + 1] = 0
    return num


@compiled
def _add_large(counts, num_large, num, seen, distinct, ends) -> int:
    large = np.empty(num_large, dtype=np.int64)
    place = 0
    for entry in range(len(counts)):
        if counts[entry] >= SMALL:
            large[place] = counts[entry]
            place += 1
    large.sort()
    for place in range(num_large):
        seen += 1
        if place and large[place] == large[place - 1]:
            ends[num - 1] = seen
        else:
            distinct[num], ends[num] = large[place], seen
            num += 1
    return num


@compiled
def _look_up_large(counts, codes, distinct, num) -> None:
    for entry in range(len(counts)):
        if counts[entry] >= SMALL:
            codes[entry] = np.searchsorted(distinct[:num], np.int64(counts[entry]))


@compiled
def longest_row(starts) -> int:
    longest = 0
    for row in range(len(starts) - 1):
        longest = max(longest, starts[row + 1] - starts[row])
    return longest
