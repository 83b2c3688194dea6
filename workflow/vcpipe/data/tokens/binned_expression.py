"""Genes by ascending id, with the bins of their values.

Bins are those of all detected genes of a cell, also where only some become tokens.
"""

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.binning import inner_edges, quantile_levels, uniform_edges
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.recipe import BY_ID, EDGES, ONES, QUANTILES, Recipe, recipe
from vcpipe.errors import InputError


def binned_expression(config: Tokenizer, fitted: Fitted) -> Recipe:
    values, *others = BINNINGS[config.binning_method](config, fitted)
    made = recipe(config, fitted.fit, BY_ID, values)
    return made._replace(**dict(others))


def _quantile_per_cell(config: Tokenizer, fitted: Fitted):
    """Bins 1..n_bins - 1 at each cell's own quantiles; bin 0 is for zero counts."""
    return QUANTILES, ("levels", quantile_levels(config.n_bins))


def _quantile(config: Tokenizer, fitted: Fitted):
    """Bins 1..n_bins - 1 of normalised values at n_bins given edges, ends included.

    Bin b holds values above edges[b - 1], up to edges[b]; values beyond the ends take the first or
    the last bin. Equal edges make bins that only ties reach: their number never changes, while
    scModelForge's "quantile" drops them (np.unique), and lets small values share bin 0 with zeros.
    """
    edges = fitted.bin_edges
    assert edges is not None, "binning_method quantile needs fitted edges"
    if len(edges) != config.n_bins:
        raise InputError(
            f"tokenizer.n_bins is {config.n_bins} and {len(edges)} edges were fitted; expected as "
            f"many edges as bins. Set preprocess fit.num_bin_edges to {config.n_bins}, or n_bins "
            f"to {len(edges)}."
        )
    return EDGES, ("edges", inner_edges(edges)), ("lowest_bin", 1)


def _uniform(config: Tokenizer, fitted: Fitted):
    """Bins 0..n_bins - 1 of equal width from 0 to value_max: scModelForge's digits.

    Values of the first width (log1p up to 0.196 at 51 bins) have bin 0, as undetected genes do:
    this n_bins counts widths, that of quantile bins counts bin 0 for zeros.
    """
    edges = inner_edges(uniform_edges(config.n_bins, config.value_max))
    return EDGES, ("edges", edges), ("draws_ties", False)


def _binary(config: Tokenizer, fitted: Fitted):
    return (ONES,)


BINNINGS = {
    "quantile_per_cell": _quantile_per_cell,
    "quantile": _quantile,
    "uniform": _uniform,
    "binary": _binary,
}
