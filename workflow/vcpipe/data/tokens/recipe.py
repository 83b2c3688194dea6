"""What a tokenizer does with a cell, as numbers and arrays that compiled loops read."""

from typing import NamedTuple

import numpy as np

from vcpipe.config.fitting import Fit
from vcpipe.config.tokens import Tokenizer
from vcpipe.data.normalised_values import target_sum

# Order of a cell's genes.
BY_ID, BY_COUNT, BY_WEIGHT = range(3)
# Which genes of a longer cell stay: the most expressed (ties drawn), any, or the first by id.
TOP, ANY, FIRST = range(3)
TRUNCATIONS = {"top_value": TOP, "random": ANY, "first": FIRST}
# Their values: normalised ones, bins at the cell's own quantiles or at given edges, or ones.
NORMALISED, QUANTILES, EDGES, ONES = range(4)


class Recipe(NamedTuple):
    order: int
    truncation: int
    values: int
    room: int  # most genes of a cell, undetected ones included
    most_absent: int  # of these, undetected ones
    prepend_cls: int
    draws_ties: bool  # of bins
    target_sum: float
    log1p: bool
    medians: np.ndarray  # float64 by gene id, of BY_WEIGHT; a gene without one is no token
    levels: np.ndarray  # float64, of QUANTILES
    edges: np.ndarray  # float32, of EDGES, without the outermost
    lowest_bin: int  # of EDGES


NO_NUMBERS = np.zeros(0)


def recipe(config: Tokenizer, fit: Fit, order: int, values: int) -> Recipe:
    """What all tokenizers have in common; the rest is put in its place by each."""
    room = config.max_genes - config.prepend_cls
    return Recipe(
        order=order,
        truncation=TRUNCATIONS[config.truncation],
        values=values,
        room=room,
        most_absent=int(room * config.include_zero_genes),
        prepend_cls=int(config.prepend_cls),
        draws_ties=config.binning_ties == "random",
        target_sum=float(target_sum(fit)),
        log1p=fit.log1p,
        medians=NO_NUMBERS,
        levels=NO_NUMBERS,
        edges=NO_NUMBERS.astype(np.float32),
        lowest_bin=0,
    )
