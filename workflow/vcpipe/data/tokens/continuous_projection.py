"""Genes by ascending id, with their normalised values."""

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.draws import Draw
from vcpipe.data.normalised_values import normalised_values
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.packing import Specials, Tokens
from vcpipe.data.tokens.truncation import Measured, genes_by_id


def continuous_projection(
    rows: Rows,
    special: Specials,
    config: Tokenizer,
    fitted: Fitted,
    measured: Measured | None,
    draw: Draw,
) -> Tokens:
    values_N = normalised_values(rows, fitted.fit)
    return genes_by_id(rows, values_N, special, config, measured, draw)
