"""Genes by ascending id, with their normalised values."""

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.recipe import BY_ID, NORMALISED, Recipe, recipe


def continuous_projection(config: Tokenizer, fitted: Fitted) -> Recipe:
    return recipe(config, fitted.fit, BY_ID, NORMALISED)
