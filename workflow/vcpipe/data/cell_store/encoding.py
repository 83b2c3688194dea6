"""Counts in the columns of a source -> vocabulary ids that ascend within each cell."""

import numpy as np

from vcpipe.data.cell_store.blocks import LARGEST_COUNT
from vcpipe.data.sparse_rows import compiled

# Which bit of a number that is a power of two is set: the product with a de Bruijn number has, in
# its upper six bits, another pattern for each.
DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
BIT_OF = np.zeros(64, dtype=np.int64)
for _bit in range(64):
    BIT_OF[(((1 << _bit) * int(DE_BRUIJN)) % 2**64) >> 58] = _bit
NUM_SHOWN_COUNTS = 64  # how often counts of 1, 2, ... 63 occur, and larger ones together


class Encoder:
    """Arrays that the loop over rows of one modality needs, as long as the vocabulary."""

    def __init__(self, num_features: int):
        self.sums = np.zeros(num_features, dtype=np.int64)
        self.seen = np.zeros(num_features // 64 + 1, dtype=np.uint64)

    def encode(self, matrix, id_of, ids, counts, lengths, totals) -> tuple[int, int]:
        """Write rows one after the other; the row and id whose count is too large, or (-1, -1)."""
        return _encode(
            matrix.indptr,
            matrix.indices,
            matrix.data,
            id_of,
            self.sums,
            self.seen,
            ids,
            counts,
            lengths,
            totals,
        )


@compiled
def _encode(
    indptr, indices, values, id_of, sums, seen, ids, counts, lengths, totals
) -> tuple[int, int]:
    """Add counts up by id, note which ids occur as bits, and read these in order.

    Nothing is sorted: that costs several times as much.
    """
    place = 0
    one = np.uint64(1)
    for row in range(len(indptr) - 1):
        total = 0
        for entry in range(indptr[row], indptr[row + 1]):
            value = np.int64(values[entry])
            total += value
            number = id_of[indices[entry]]
            if number >= 0 and value > 0:
                sums[number] += value
                seen[number >> 6] |= one << np.uint64(number & 63)
        start = place
        for word in range(len(seen)):
            bits = seen[word]
            if bits == 0:
                continue
            seen[word] = 0
            while bits != 0:
                lowest = bits & (~bits + one)
                bits ^= lowest
                number = word * 64 + BIT_OF[(lowest * DE_BRUIJN) >> np.uint64(58)]
                if sums[number] > LARGEST_COUNT:
                    return row, number
                ids[place] = number
                counts[place] = sums[number]
                sums[number] = 0
                place += 1
        lengths[row] = place - start
        totals[row] = total
    return -1, -1


@compiled
def tally(first, lengths, counts, chosen, histogram) -> int:
    """Add how often each count occurs in the chosen cells; the largest count."""
    largest = 0
    for cell in chosen:
        for entry in range(first[cell], first[cell] + lengths[cell]):
            count = np.int64(counts[entry])
            largest = max(largest, count)
            histogram[min(count, NUM_SHOWN_COUNTS)] += 1
    return largest
