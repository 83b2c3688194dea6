"""Compiled loops over the rows of a CSR matrix, one pass each, without temporary arrays.

The same in numpy needs several passes and fresh memory for each: four to eight times the time.
"""

import hashlib
from functools import cache
from pathlib import Path

import numba
import numpy as np


def compiled(function):
    """Compile at the first call, and keep the machine code beside the source."""
    users = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(machine_code(users))
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        # No folder to keep it in can be written to: each process compiles, which takes seconds.
        return numba.njit(nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = users


@cache
def machine_code(users: str) -> Path:
    """A folder of its own for every state of our loops.

    numba looks at the file of a function only, and would go on with old code of the functions that
    it calls from other files.
    """
    here = Path(__file__).parent
    content = hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        text = path.read_bytes()
        if b"@compiled" in text:
            content.update(str(path.relative_to(here)).encode() + text)
    return Path(users or here / "__pycache__") / f"numba-{content.hexdigest()[:16]}"


CLEAN, NO_COUNT, UNORDERED, OUTSIDE = range(4)
# log(1 + count × scale) of smaller counts is looked up: nearly all counts of a cell are small.
SMALL = 64


@compiled
def inspect(indptr, indices, values, num_columns, largest) -> int:
    """What is wrong with rows of counts: one of the four words above, the worst first.

    UNORDERED: columns of a row not in order, or twice, or a stored zero.
    """
    outside = unordered = wrong = False
    # Three loops without branches, so that each works on several entries at a time.
    for entry in range(len(indices)):
        outside |= (indices[entry] < 0) | (indices[entry] >= num_columns)
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row] + 1, indptr[row + 1]):
            unordered |= indices[entry] <= indices[entry - 1]
    for entry in range(len(values)):
        value = values[entry]
        unordered |= value == 0
        # A comparison with NaN is False, so NaN is no count.
        wrong |= not ((value >= 0) & (value <= largest) & (value == np.floor(value)))
    if outside:
        return OUTSIDE
    if unordered:
        return UNORDERED
    return NO_COUNT if wrong else CLEAN


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


@compiled
def pick_columns(indptr, indices, values, place, out) -> None:
    """Put each row's values of the wanted columns, place[column] >= 0, into a dense row of out."""
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            column = place[indices[entry]]
            if column >= 0:
                out[row, column] = values[entry]
