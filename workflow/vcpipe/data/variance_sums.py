"""Exact sums of genes' values and their squares within groups of cells: the stuff of HVGs.

Values are added as whole numbers of a small unit, so a sum does not depend on the order of cells,
nor on where files and chunks begin.
"""

# K groups, G genes

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from vcpipe.data.sparse_rows import SMALL, compiled

COUNTS, NORMALISED, LOGGED = range(3)
# A square in units of 2**-s stays below 2**60, and its two halves of 32 bits can be added
# two thousand million times.
BITS = 60


@dataclass(frozen=True)
class VarianceSums:
    """What means and variances need; adding chunks fills it in place."""

    kind: int  # COUNTS, NORMALISED or LOGGED: which values are added
    target_sum: float | None  # None: values are counts
    num_cells_K: np.ndarray
    # Of each gene: values (high, low half), squares (high, low half).
    halves_KG4: np.ndarray

    @property
    def shifts(self) -> tuple[int, int]:
        """The units of values and of squares: powers of two that hold the largest of them."""
        largest = self.target_sum if self.target_sum and self.kind != COUNTS else 2.0**24
        if self.kind == LOGGED:
            largest = math.log1p(largest)
        bits = max(0, math.ceil(math.log2(largest)))
        return BITS - bits, BITS - 2 * bits

    @property
    def sums_KG(self) -> np.ndarray:
        return self._whole(0) * 2.0 ** -self.shifts[0]

    @property
    def squares_KG(self) -> np.ndarray:
        return self._whole(2) * 2.0 ** -self.shifts[1]

    def _whole(self, place: int) -> np.ndarray:
        high, low = self.halves_KG4[..., place], self.halves_KG4[..., place + 1]
        return high * 2.0**32 + low


def empty_variance_sums(
    kind: int, target_sum: float | None, num_groups: int, num_genes: int
) -> VarianceSums:
    return VarianceSums(
        kind,
        target_sum,
        np.zeros(num_groups, dtype=np.int64),
        np.zeros((num_groups, num_genes, 4), dtype=np.int64),
    )


def add_to_variances(
    sums: VarianceSums,
    counts: sp.csr_matrix,
    totals: np.ndarray,
    place: np.ndarray,
    group: np.ndarray,
) -> None:
    """Add cells to their groups; group -1 is left out, and genes whose place is -1."""
    sums.num_cells_K[:] += np.bincount(group[group >= 0], minlength=len(sums.num_cells_K))
    scale = np.ones(len(group))
    if sums.kind != COUNTS and sums.target_sum is not None:
        scale = sums.target_sum / np.maximum(totals, 1)
    units = 2.0 ** np.array(sums.shifts)
    rows = (counts.indptr, counts.indices, counts.data)
    _add(*rows, scale, place, group, sums.kind == LOGGED, units, sums.halves_KG4)


@compiled
def _add(indptr, indices, counts, scale, place, group, logged, units, halves) -> None:
    small = np.zeros((SMALL, 4), dtype=np.int64)
    other = np.zeros(4, dtype=np.int64)
    longest = np.max(np.diff(indptr)) if len(indptr) > 1 else 0
    genes, numbers = np.empty(longest, dtype=np.uint64), np.empty(longest, dtype=np.uint64)
    for row in range(len(indptr) - 1):
        its = group[row]
        if its < 0:
            continue
        of_genes = halves[its]
        for count in range(SMALL):
            _parts(count * scale[row], logged, units, small[count])
        # First where, then add, as in value_histogram; large counts are few.
        num = 0
        for entry in range(indptr[row], indptr[row + 1]):
            gene, count = place[indices[entry]], counts[entry]
            if count >= SMALL:
                if gene >= 0:
                    _parts(count * scale[row], logged, units, other)
                    of_genes[gene] += other
                continue
            genes[num], numbers[num] = gene, int(count)
            num += gene >= 0
        for entry in range(num):
            for part in range(4):
                of_genes[genes[entry], part] += small[numbers[entry], part]


@compiled
def _parts(value, logged, units, out) -> None:
    """A value and its square in their units, each as a high and a low half."""
    if logged:
        value = np.log1p(value)
    for square in range(2):
        whole = np.int64(np.rint((value * value if square else value) * units[square]))
        out[2 * square] = whole >> 32
        out[2 * square + 1] = whole & 0xFFFFFFFF


def mean_and_variance(sums: VarianceSums) -> tuple[np.ndarray, np.ndarray]:
    """Means and unbiased variances of each group."""
    cells_K1 = sums.num_cells_K[:, None]
    sums_KG = sums.sums_KG
    centred_KG = sums.squares_KG - sums_KG**2 / cells_K1
    return sums_KG / cells_K1, np.maximum(centred_KG, 0) / np.maximum(cells_K1 - 1, 1)


def all_groups(sums: VarianceSums) -> VarianceSums:
    """The same sums over all cells, as one group."""
    return VarianceSums(
        sums.kind,
        sums.target_sum,
        sums.num_cells_K.sum(keepdims=True),
        sums.halves_KG4.sum(axis=0, keepdims=True),
    )


def part_of(sums: VarianceSums, groups: np.ndarray, genes: np.ndarray) -> VarianceSums:
    """The sums of some groups and genes."""
    halves = sums.halves_KG4[np.ix_(groups, genes)]
    return VarianceSums(sums.kind, sums.target_sum, sums.num_cells_K[groups], halves)


@dataclass(frozen=True)
class ClippedSums:
    """Sums and squares of counts that are cut off at a limit of each gene and group."""

    limits_KG: np.ndarray
    # Of each gene: counts below the limit, their squares, and how many are at or above it.
    below_KG3: np.ndarray

    @property
    def sums_KG(self) -> np.ndarray:
        return self.below_KG3[..., 0] + self.below_KG3[..., 2] * self.limits_KG

    @property
    def squares_KG(self) -> np.ndarray:
        return self.below_KG3[..., 1] + self.below_KG3[..., 2] * self.limits_KG**2


def empty_clipped_sums(limits_KG: np.ndarray) -> ClippedSums:
    return ClippedSums(limits_KG, np.zeros((*limits_KG.shape, 3), dtype=np.int64))


def add_to_clipped(
    sums: ClippedSums, counts: sp.csr_matrix, place: np.ndarray, group: np.ndarray
) -> None:
    rows = (counts.indptr, counts.indices, counts.data)
    _add_clipped(*rows, place, group, sums.limits_KG, sums.below_KG3)


@compiled
def _add_clipped(indptr, indices, counts, place, group, limits, below) -> None:
    for row in range(len(indptr) - 1):
        its = group[row]
        if its < 0:
            continue
        for entry in range(indptr[row], indptr[row + 1]):
            gene = place[indices[entry]]
            if gene < 0:
                continue
            if counts[entry] < limits[its, gene]:
                count = np.int64(counts[entry])
                below[its, gene, 0] += count
                below[its, gene, 1] += count * count
            else:
                below[its, gene, 2] += 1
