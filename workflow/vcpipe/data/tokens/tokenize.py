"""Rows of the store -> tokens, by the configured strategy."""

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.draws import Draw
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.binned_expression import binned_expression
from vcpipe.data.tokens.continuous_projection import continuous_projection
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.gene_embedding import gene_embedding
from vcpipe.data.tokens.packing import Specials, Tokens
from vcpipe.data.tokens.rank_value import rank_value
from vcpipe.data.tokens.truncation import Measured

TOKENIZERS = {
    "rank_value": rank_value,
    "binned_expression": binned_expression,
    "continuous_projection": continuous_projection,
    "gene_embedding": gene_embedding,
}


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
    return TOKENIZERS[config.strategy](rows, special, config, fitted, measured, Draw(seed, epoch))
