"""Genes by ascending id, with the bins of their values."""

import numpy as np

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.binning import edge_bins, quantile_bins, uniform_bins
from vcpipe.data.draws import Draw
from vcpipe.data.normalised_values import target_sum
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.packing import Specials, Tokens
from vcpipe.data.tokens.truncation import Measured, genes_by_id
from vcpipe.errors import InputError


def binned_expression(
    rows: Rows,
    special: Specials,
    config: Tokenizer,
    fitted: Fitted,
    measured: Measured | None,
    draw: Draw,
) -> Tokens:
    """Bins are those of all detected genes of a cell, also where only some become tokens."""
    values_N = bins(rows, config, fitted, draw).astype(np.float32)
    return genes_by_id(rows, values_N, special, config, measured, draw)


def bins(rows: Rows, config: Tokenizer, fitted: Fitted, draw: Draw) -> np.ndarray:
    """uint16 [N] bins by the configured method."""
    return BINNINGS[config.binning_method](rows, config, fitted, _drawn_ties(config, draw))


def _drawn_ties(config: Tokenizer, draw: Draw) -> Draw | None:
    return draw if config.binning_ties == "random" else None


def _quantile_per_cell(rows, config, fitted, ties) -> np.ndarray:
    return quantile_bins(rows, config.n_bins, draw=ties)


def _quantile(rows, config, fitted, ties) -> np.ndarray:
    edges = fitted.bin_edges
    assert edges is not None, "binning_method quantile needs fitted edges"
    if len(edges) != config.n_bins:
        raise InputError(
            f"tokenizer.n_bins is {config.n_bins} and {len(edges)} edges were fitted; expected as "
            f"many edges as bins. Set preprocess fit.num_bin_edges to {config.n_bins}, or n_bins "
            f"to {len(edges)}."
        )
    return edge_bins(rows, edges, target_sum(fitted.fit), fitted.fit.log1p, draw=ties)


def _uniform(rows, config, fitted, ties) -> np.ndarray:
    scale = target_sum(fitted.fit)
    return uniform_bins(rows, config.n_bins, config.value_max, scale, fitted.fit.log1p)


def _binary(rows, config, fitted, ties) -> np.ndarray:
    return np.ones(len(rows.ids), dtype=np.uint16)


BINNINGS = {
    "quantile_per_cell": _quantile_per_cell,
    "quantile": _quantile,
    "uniform": _uniform,
    "binary": _binary,
}
