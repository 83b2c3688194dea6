"""Cells with too little in them, by the vocabulary's features; the same wherever cells are read."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from vcpipe.config.fitting import Filters
from vcpipe.data.sparse_rows import compiled

# Why a cell is left out: its place in this list; of several reasons the first.
REASONS = ("kept", "min_genes", "min_counts", "min_peaks")


@dataclass(frozen=True)
class RowSums:
    """What filters ask of each row of a chunk."""

    num: np.ndarray  # detected features of the vocabulary
    known: np.ndarray  # their counts
    totals: np.ndarray  # counts of all features


def filter_cells(sums: Mapping[str, RowSums], filters: Filters) -> np.ndarray:
    """For every cell of a chunk 0, or the number of the reason to leave it out.

    `sums` are by modality. A source without genes (or peaks) is not asked for them.
    """
    reason = np.zeros(len(next(iter(sums.values())).num), dtype=np.uint8)
    if "atac" in sums:
        reason[sums["atac"].num < filters.min_peaks] = REASONS.index("min_peaks")
    if "rna" in sums:
        reason[sums["rna"].known < filters.min_counts] = REASONS.index("min_counts")
        reason[sums["rna"].num < filters.min_genes] = REASONS.index("min_genes")
    return reason


def first_columns(ids: np.ndarray) -> np.ndarray | None:
    """For each column the first of the same id (peaks that overlap); None where none repeats.

    >>> first_columns(np.array([7, -1, 7, -1])).tolist()
    [0, 1, 0, 3]
    """
    known = np.flatnonzero(ids >= 0)
    _, first, which = np.unique(ids[known], return_index=True, return_inverse=True)
    if len(first) == len(known):
        return None
    columns = np.arange(len(ids), dtype=np.int32)
    columns[known] = known[first][which]
    return columns


def merge_columns(counts: sp.csr_matrix, columns: np.ndarray | None) -> sp.csr_matrix:
    """Counts of columns with the same id, added up in the first of them.

    >>> merge_columns(sp.csr_matrix([[1, 2, 3, 4]]), np.array([0, 1, 0, 3])).toarray().tolist()
    [[4, 2, 0, 4]]
    """
    if columns is None:
        return counts
    merged = sp.csr_matrix(
        (counts.data.copy(), columns[counts.indices], counts.indptr.copy()), counts.shape
    )
    merged.sum_duplicates()
    return merged


def row_sums(counts: sp.csr_matrix, ids: np.ndarray) -> RowSums:
    """`ids` are the vocabulary's of the columns, each once (see merge_columns); -1 is unknown."""
    num, known, totals = (np.zeros(counts.shape[0], dtype=np.int64) for _ in range(3))
    _add(counts.indptr, counts.indices, counts.data, ids, num, known, totals)
    return RowSums(num, known, totals)


@compiled
def _add(indptr, indices, counts, ids, num, known, totals) -> None:
    for row in range(len(indptr) - 1):
        detected = 0
        inside = total = 0.0  # whole numbers, exact up to 2**53
        for entry in range(indptr[row], indptr[row + 1]):
            is_known = ids[indices[entry]] >= 0
            count = np.float64(counts[entry])
            detected += is_known
            inside += count * is_known
            total += count
        num[row], known[row], totals[row] = detected, int(inside), int(total)
