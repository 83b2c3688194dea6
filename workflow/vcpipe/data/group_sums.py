"""Sums of groups of cells from one pass over sparse rows, and Welch's t from these sums."""

# K groups, G genes, C cells of a chunk

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from vcpipe.data.sparse_rows import add_rows


@dataclass(frozen=True)
class GroupSums:
    """What means and variances need; adding chunks fills it in place."""

    num_cells_K: np.ndarray
    sums_KG: np.ndarray
    squares_KG: np.ndarray
    nonzero_KG: np.ndarray

    @property
    def mean_KG(self) -> np.ndarray:
        return self.sums_KG / self.num_cells_K[:, None]


def empty_sums(num_groups: int, num_genes: int) -> GroupSums:
    shape = (num_groups, num_genes)
    return GroupSums(
        np.zeros(num_groups, dtype=np.int64),
        np.zeros(shape),
        np.zeros(shape),
        np.zeros(shape, dtype=np.int64),
    )


def add_cells(total: GroupSums, values_CG: sp.csr_matrix, group_C: np.ndarray) -> None:
    """Add cells to their groups; nothing is densified but the sums themselves."""
    total.num_cells_K[:] += np.bincount(group_C, minlength=len(total.num_cells_K))
    # Cell after cell: the sums do not depend on where chunks begin, to the last bit.
    add_rows(
        values_CG.indptr,
        values_CG.indices,
        values_CG.data,
        group_C,
        total.sums_KG,
        total.squares_KG,
        total.nonzero_KG,
    )


def pair_of(total: GroupSums, group: int, control: int) -> GroupSums:
    """The sums of a group and of its controls: two rows."""
    both = [group, control]
    return GroupSums(
        total.num_cells_K[both], total.sums_KG[both], total.squares_KG[both], total.nonzero_KG[both]
    )


def variance_KG(total: GroupSums) -> np.ndarray:
    """Unbiased variances; rounding below zero becomes zero."""
    cells_K1 = total.num_cells_K[:, None]
    centred_KG = total.squares_KG - total.sums_KG**2 / cells_K1
    return np.maximum(centred_KG, 0) / np.maximum(cells_K1 - 1, 1)


def welch_t_KG(total: GroupSums, control_K: np.ndarray) -> np.ndarray:
    """Welch's t of every group against its control group; 0 where both are constant and equal.

    >>> sums = empty_sums(2, 1)
    >>> add_cells(sums, sp.csr_matrix([[1.0], [3.0], [5.0], [7.0]]), np.array([0, 0, 1, 1]))
    >>> welch_t_KG(sums, np.array([0, 0])).round(4).ravel().tolist()
    [0.0, 2.8284]
    """
    mean_KG = total.mean_KG
    error_KG = variance_KG(total) / total.num_cells_K[:, None]
    difference_KG = mean_KG - mean_KG[control_K]
    with np.errstate(divide="ignore", invalid="ignore"):
        t_KG = difference_KG / np.sqrt(error_KG + error_KG[control_K])
    return np.nan_to_num(t_KG, nan=0.0, posinf=np.inf, neginf=-np.inf)


def ranking(t_G: np.ndarray) -> np.ndarray:
    """Genes by falling |t|; equal ones keep the order of the columns."""
    return np.argsort(-np.abs(t_G), kind="stable")
