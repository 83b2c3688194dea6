"""Depth of every cell and sums of every group of cells, from one pass over the raw counts."""

# C cells, K groups (a condition in a cell type), G genes, T perturbed genes that were measured

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy import special

from vcpipe.data.gears import log_normalised
from vcpipe.data.group_sums import (
    GroupSums,
    add_cells,
    empty_sums,
    pair_of,
    variance_KG,
    welch_t_KG,
)
from vcpipe.data.screen import CONTROL, Screen, perturbed_genes


@dataclass(frozen=True)
class Measurements:
    groups: pd.DataFrame  # condition and cell_type of each group; controls stand first
    group_C: np.ndarray
    control_K: np.ndarray  # the control group of each group's cell type
    umi_C: np.ndarray
    umi_K: np.ndarray
    detected_C: np.ndarray  # genes with a count
    values: GroupSums  # of log-normalised values, K × G
    targets_T: np.ndarray  # str
    expression: GroupSums  # of counts scaled to target_sum, K × T


@dataclass(frozen=True)
class Comparison:
    """One group of cells against its controls, gene by gene."""

    difference_G: np.ndarray
    variance_G: np.ndarray  # of the difference of the two means
    t_G: np.ndarray  # Welch's
    degrees_G: np.ndarray  # Welch and Satterthwaite's degrees of freedom


def measure(screen: Screen, size: int = 1024) -> Measurements:
    """Read all counts, `size` cells at a time; only the groups' sums are dense."""
    groups, group_C = _groups(screen)
    target_genes = {gene for one in groups["condition"] for gene in perturbed_genes(one)}
    column_T = np.flatnonzero(np.isin(screen.genes, sorted(target_genes)))
    umi_C = np.empty(len(screen.cells))
    detected_C = np.empty(len(screen.cells), dtype=np.int64)
    values = empty_sums(len(groups), len(screen.genes))
    expression = empty_sums(len(groups), len(column_T))
    for start in range(0, len(screen.cells), size):
        rows = slice(start, min(start + size, len(screen.cells)))
        counts_CG = screen.counts(rows)
        umi_C[rows] = np.asarray(counts_CG.sum(axis=1, dtype=np.float64)).ravel()
        detected_C[rows] = counts_CG.getnnz(axis=1)
        # What X holds, without reading X as well.
        add_cells(values, log_normalised(counts_CG, screen.target_sum), group_C[rows])
        scale_CC = sp.diags_array(screen.target_sum / umi_C[rows])
        add_cells(expression, sp.csr_matrix(scale_CC @ counts_CG[:, column_T]), group_C[rows])
    return Measurements(
        groups=groups,
        group_C=group_C,
        control_K=_controls(groups),
        umi_C=umi_C,
        umi_K=np.bincount(group_C, weights=umi_C),
        detected_C=detected_C,
        values=values,
        targets_T=screen.genes[column_T],
        expression=expression,
    )


def _groups(screen: Screen) -> tuple[pd.DataFrame, np.ndarray]:
    """The condition and cell type of each group, and the group of each cell."""
    labels = pd.DataFrame(
        {
            "perturbed": screen.condition != CONTROL,
            "condition": screen.condition,
            "cell_type": screen.cell_type,
        }
    )
    keys = list(labels)
    group_C = labels.groupby(keys, sort=True).ngroup().to_numpy()
    groups = labels.drop_duplicates().sort_values(keys, ignore_index=True)
    return groups[["condition", "cell_type"]], group_C


def _controls(groups: pd.DataFrame) -> np.ndarray:
    controls = groups[groups["condition"] == CONTROL]
    number = dict(zip(controls["cell_type"], controls.index, strict=True))
    return groups["cell_type"].map(number).to_numpy(dtype=np.int64)


def compare(total: GroupSums, group: int, control: int) -> Comparison:
    """Welch's comparison of one group with its controls."""
    two = pair_of(total, group, control)
    error_2G = variance_KG(two) / two.num_cells_K[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees_G = error_2G.sum(axis=0) ** 2 / (
            error_2G**2 / np.maximum(two.num_cells_K - 1, 1)[:, None]
        ).sum(axis=0)
    return Comparison(
        difference_G=two.mean_KG[0] - two.mean_KG[1],
        variance_G=error_2G.sum(axis=0),
        t_G=welch_t_KG(two, np.array([1, 1]))[0],
        # Constant in both groups: t is 0 or infinite, whatever the degrees.
        degrees_G=np.nan_to_num(degrees_G, nan=1.0),
    )


def p_values(compared: Comparison, effect: str) -> np.ndarray:
    """Welch's p of every gene: one-sided for an effect down or up, two-sided for none."""
    t_G, degrees_G = compared.t_G, compared.degrees_G
    if effect == "none":
        return 2 * special.stdtr(degrees_G, -np.abs(t_G))
    return special.stdtr(degrees_G, t_G if effect == "down" else -t_G)


def rms_change(compared: Comparison) -> float:
    """Root mean square change of all genes without the part that noise adds; 0 if noise is more.

    The square of a difference of two means exceeds that of the true one by its variance.
    """
    squares = np.mean(compared.difference_G**2 - compared.variance_G)
    return float(np.sqrt(max(squares, 0)))
