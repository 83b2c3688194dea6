"""Rows of the store -> tokens, by the configured strategy."""

import numpy as np

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.cell_store.cells import cells_of
from vcpipe.data.draws import Draw
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.binned_expression import binned_expression
from vcpipe.data.tokens.collate import Collated, collate
from vcpipe.data.tokens.continuous_projection import continuous_projection
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.gene_embedding import gene_embedding
from vcpipe.data.tokens.masking import NOTHING, Hiding
from vcpipe.data.tokens.packing import Specials, Tokens
from vcpipe.data.tokens.rank_value import rank_value
from vcpipe.data.tokens.recipe import Recipe
from vcpipe.data.tokens.truncation import Measured

TOKENIZERS = {
    "rank_value": rank_value,
    "binned_expression": binned_expression,
    "continuous_projection": continuous_projection,
    "gene_embedding": gene_embedding,
}


def recipe_of(config: Tokenizer, fitted: Fitted) -> Recipe:
    return TOKENIZERS[config.strategy](config, fitted)


def tokenize(
    rows: Rows,
    special: Specials,
    config: Tokenizer,
    fitted: Fitted,
    *,
    seed: int,
    epoch: int,
    measured: Measured | None = None,
) -> Tokens:
    """Tokens of some cells; a cell's tokens depend on (seed, epoch, its key), not on the others.

    `measured` is needed where include_zero_genes is above 0.
    """
    made = masked_tokens(
        rows, special, config, fitted, NOTHING, seed=seed, epoch=epoch, measured=measured
    )
    return Tokens(made.starts, made.genes, made.values, made.keys)


def masked_tokens(
    rows: Rows,
    special: Specials,
    config: Tokenizer,
    fitted: Fitted,
    hiding: Hiding,
    *,
    seed: int,
    epoch: int,
    measured: Measured | None = None,
) -> Collated:
    """The same, with some of them hidden."""
    return collate(
        *(cells_of(rows), np.arange(len(rows)), rows.keys, recipe_of(config, fitted), special),
        Draw(seed, epoch),
        hiding=hiding,
        measured=measured,
    )


def bins(rows: Rows, config: Tokenizer, fitted: Fitted, draw: Draw) -> np.ndarray:
    """uint16 [N]: the bins of all entries of rows, by the configured method."""
    recipe = binned_expression(config, fitted)
    recipe = recipe._replace(
        room=int(np.diff(rows.starts).max(initial=0)), most_absent=0, prepend_cls=0
    )
    special = Specials(0, 0, 0, 0.0, 0.0, 0.0)
    made = collate(cells_of(rows), np.arange(len(rows)), rows.keys, recipe, special, draw)
    return made.values.astype(np.uint16)
