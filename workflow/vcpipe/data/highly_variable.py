"""Highly variable genes as scanpy.pp.highly_variable_genes chooses them, from sums over cells.

The same methods and, for the same cells, the same genes. Two things differ: genes that are tied at
the end of the list follow their order in the vocabulary (scanpy's sort leaves it open, or takes
more genes than were asked for), and cell_ranger's bins may share an edge (scanpy stops there).
"""

# K groups, G genes

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from vcpipe.data.variance_sums import COUNTS, LOGGED, NORMALISED, ClippedSums
from vcpipe.errors import InputError

VALUES_OF = {"seurat_v3": COUNTS, "seurat": NORMALISED, "cell_ranger": LOGGED}
# A curve of degree 2 through a share of the genes, at each place, needs a few of them.
FEWEST_GENES = 10
# scanpy's: the share of genes that a place of the curve is fitted to, bins of mean expression, and
# the median absolute deviation of a normal distribution.
SPAN, NUM_MEAN_BINS, NORMAL_MAD = 0.3, 20, 0.6744897501960817


def expected_deviation(
    mean_KG: np.ndarray, variance_KG: np.ndarray, groups: Sequence[str]
) -> np.ndarray:
    """The deviation that counts of such a mean have: a curve through all genes of a group."""
    # Its shared library is loaded where it is needed.
    from skmisc.loess import loess

    deviation_KG = np.ones_like(mean_KG)
    for number, group in enumerate(groups):
        varies = variance_KG[number] > 0
        fitted, reason = np.array([np.nan]), ""
        if varies.sum() >= FEWEST_GENES:
            x, y = (np.log10(values[number, varies]) for values in (mean_KG, variance_KG))
            curve = loess(x, y, span=SPAN, degree=2)
            try:
                curve.fit()
                fitted = curve.outputs.fitted_values
            except ValueError as error:
                (words,) = error.args
                reason = f": {words.decode() if isinstance(words, bytes) else words}"
        if not np.isfinite(fitted).all():
            raise InputError(
                f"hvg_flavor seurat_v3 finds no curve through the {varies.sum()} genes that vary "
                f"within {group}{reason}. Give groups of more cells (another hvg_batch_key, or "
                "null for all cells together), or choose hvg_flavor seurat."
            )
        deviation_KG[number, varies] = np.sqrt(10**fitted)
    return deviation_KG


def clip_limits(
    mean_KG: np.ndarray, deviation_KG: np.ndarray, num_cells_K: np.ndarray
) -> np.ndarray:
    """Counts beyond so many deviations count as this, so that no single cell makes a gene vary."""
    return deviation_KG * np.sqrt(num_cells_K)[:, None] + mean_KG


def rank_by_variance(
    mean_KG: np.ndarray,
    deviation_KG: np.ndarray,
    num_cells_K: np.ndarray,
    clipped: ClippedSums,
    number: int,
) -> pd.DataFrame:
    """seurat_v3: the variance of standardised, clipped counts; genes in the order of rank."""
    cells_K1 = num_cells_K[:, None]
    centred_KG = cells_K1 * mean_KG**2 + clipped.squares_KG - 2 * clipped.sums_KG * mean_KG
    normalised_KG = centred_KG / ((cells_K1 - 1) * deviation_KG**2)
    rank_KG = np.argsort(np.argsort(-normalised_KG, axis=1, kind="stable"), axis=1).astype(float)
    is_high_KG = rank_KG < number
    median_G = np.ma.median(np.ma.masked_array(rank_KG, ~is_high_KG), axis=0).filled(np.nan)
    table = pd.DataFrame(
        {
            "variance_normalised": normalised_KG.mean(axis=0),
            "num_groups": is_high_KG.sum(axis=0),
            "median_rank": median_G,
        }
    )
    order = ["median_rank", "num_groups"]
    return _ranked(table, table.sort_values(order, ascending=[True, False], kind="stable"), number)


def rank_by_dispersion(
    flavor: str, mean_KG: np.ndarray, variance_KG: np.ndarray, grouped: bool, number: int
) -> pd.DataFrame:
    """seurat and cell_ranger: variance over mean, against genes of about the same mean.

    `grouped` says that groups were asked for: then genes that a group lacks do not count there.
    """
    parts = []
    for mean_G, variance_G in zip(mean_KG, variance_KG, strict=True):
        seen = mean_G > 0 if grouped else np.ones(len(mean_G), dtype=bool)
        part = pd.DataFrame(0.0, range(len(mean_G)), ["mean", "dispersion", "normalised"])
        part[seen] = _dispersions(flavor, mean_G[seen], variance_G[seen])
        known = np.sort(part["normalised"][seen].dropna())
        least = known[-min(number, len(known))] if len(known) else np.inf
        part["is_high"] = seen & (part["normalised"] >= least)
        parts.append(part)
    columns = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    table = pd.DataFrame(
        {
            "dispersion": _mean_of_known(columns["dispersion"]),
            "dispersion_normalised": _mean_of_known(columns["normalised"]),
            "num_groups": columns["is_high"].sum(axis=0),
        }
    )
    order = ["num_groups", "dispersion_normalised"]
    return _ranked(table, table.sort_values(order, ascending=False, kind="stable"), number)


def _ranked(table: pd.DataFrame, ordered: pd.DataFrame, number: int) -> pd.DataFrame:
    """The table with the place of each gene, 1 for the most variable, and which are chosen."""
    table["rank"] = pd.Series(np.arange(1, len(table) + 1), index=ordered.index)
    table["highly_variable"] = table["rank"] <= number
    return table


def _dispersions(flavor: str, mean_G: np.ndarray, variance_G: np.ndarray) -> np.ndarray:
    mean_G = np.where(mean_G == 0, 1e-12, mean_G)
    dispersion_G = variance_G / mean_G
    if flavor == "seurat":
        dispersion_G = np.log(np.where(dispersion_G == 0, np.nan, dispersion_G))
        mean_G = np.log1p(mean_G)
    dispersion = pd.Series(dispersion_G)
    of_bin = dispersion.groupby(_mean_bins(flavor, mean_G), observed=True)
    if flavor == "seurat":
        centre, spread = of_bin.transform("mean"), of_bin.transform("std")
        # The only gene of its bin gets 1, as scanpy has it.
        alone = spread.isna()
        centre, spread = centre.mask(alone, 0), spread.mask(alone, centre)
    else:
        centre = of_bin.transform("median")
        distance = (dispersion - centre).abs()
        spread = distance.groupby(of_bin.ngroup()).transform("median") / NORMAL_MAD
    return np.stack([mean_G, dispersion_G, (dispersion - centre) / spread], axis=1)


def _mean_bins(flavor: str, mean_G: np.ndarray) -> pd.Series:
    bins = NUM_MEAN_BINS
    if flavor == "cell_ranger":
        edges = np.percentile(mean_G, np.arange(10, 105, 5))
        bins = np.unique(np.concatenate([[-np.inf], edges, [np.inf]]))
    return pd.cut(pd.Series(mean_G), bins=bins)


def _mean_of_known(values_KG: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # A gene without a value in any group has none.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.nanmean(values_KG, axis=0)
