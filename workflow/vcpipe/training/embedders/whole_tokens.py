"""Whole cells as the tokens that a model was trained on, with nothing hidden."""

from collections.abc import Callable

import numpy as np

from vcpipe.config.eval import Embedding
from vcpipe.data.cell_store.cells import cells_of
from vcpipe.data.draws import Draw
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.collate import collate
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.packing import Specials
from vcpipe.data.tokens.tokenize import recipe_of
from vcpipe.data.tokens.truncation import measured_by
from vcpipe.training.embedders.embedder import Measured, PretrainedFolder


def whole_tokens(
    pretrained: PretrainedFolder, special: Specials, config: Embedding
) -> Callable[[Measured], Callable[[Rows], dict[str, np.ndarray]]]:
    """As token batches are; a longer cell is cut as in training, in epoch 0."""
    tokenizer = pretrained.config.tokenizer
    if config.max_genes is not None:
        tokenizer = tokenizer.model_copy(update={"max_genes": config.max_genes})
    draw = Draw(pretrained.config.training.seed, 0)

    def of_source(measured: Measured) -> Callable[[Rows], dict[str, np.ndarray]]:
        recipe = recipe_of(tokenizer, fitted_of(pretrained.record, measured.species))

        def batch(rows: Rows) -> dict[str, np.ndarray]:
            present = None
            if recipe.most_absent:
                present = measured_by([measured.ids], np.zeros(len(rows)))
            made = collate(
                *(cells_of(rows), np.arange(len(rows)), rows.keys, recipe, special, draw),
                measured=present,
                is_padded=True,
            )
            return made.padded()

        return batch

    return of_source
