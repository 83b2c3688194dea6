"""Compiled loops over the rows of a CSR matrix, one pass each, without temporary arrays.

The same in numpy needs several passes and fresh memory for each: four to eight times the time.
"""

import numba
import numpy as np

compiled = numba.njit(cache=True, nogil=True)

CLEAN, UNORDERED, OUTSIDE, NO_COUNT = range(4)
# log(1 + count × scale) of smaller counts is looked up: nearly all counts of a cell are small.
SMALL = 64


@compiled
def inspect(indptr, indices, values, num_columns, largest) -> tuple[int, int]:
    """What is wrong with rows of counts, and at which entry: one of the four words above.

    UNORDERED: columns of a row not in order, twice, or with a stored zero.
    """
    ordered = True
    wrong = -1
    for row in range(len(indptr) - 1):
        previous = -1
        for entry in range(indptr[row], indptr[row + 1]):
            column, value = indices[entry], values[entry]
            if column < 0 or column >= num_columns:
                return OUTSIDE, entry
            if column <= previous or value == 0:
                ordered = False
            previous = column
            # A comparison with NaN is False, so NaN is no count.
            if wrong < 0 and not (0 <= value <= largest and value == np.floor(value)):
                wrong = entry
    if not ordered:
        return UNORDERED, -1
    return (NO_COUNT, wrong) if wrong >= 0 else (CLEAN, -1)


@compiled
def log_rows(indptr, counts, target_sum, out) -> None:
    """out = log(1 + count × target_sum / counts of the row), in float64 until it is stored."""
    small = np.zeros(SMALL)
    for row in range(len(indptr) - 1):
        total = 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            total += counts[entry]
        scale = target_sum / total if total > 0 else 0.0
        for count in range(SMALL):
            small[count] = np.log(1.0 + count * scale)
        for entry in range(indptr[row], indptr[row + 1]):
            count = counts[entry]
            if count < SMALL:
                out[entry] = small[int(count)]
            else:
                out[entry] = np.log(1.0 + count * scale)


@compiled
def add_rows(indptr, indices, values, group, sums, squares, nonzero) -> None:
    """Add each row to the sums of its group, row after row."""
    for row in range(len(indptr) - 1):
        its = group[row]
        for entry in range(indptr[row], indptr[row + 1]):
            column, value = indices[entry], np.float64(values[entry])
            sums[its, column] += value
            squares[its, column] += value * value
            nonzero[its, column] += value != 0
