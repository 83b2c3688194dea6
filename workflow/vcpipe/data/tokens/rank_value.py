"""Genes in the order of their expression, largest first; ties in a drawn order, never by id.

Values are normalised values, whatever the genes are ranked by; undetected genes come last. Neither
normalisation nor a logarithm changes the order of a cell's genes, so counts are ranked.
"""

import numpy as np

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.draws import shuffle
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.recipe import BY_COUNT, BY_WEIGHT, NORMALISED, Recipe, recipe

# Three digits of 11 bits hold the 32 of a float.
BITS_OF_DIGIT = 11
DIGITS = 2**BITS_OF_DIGIT


def rank_value(config: Tokenizer, fitted: Fitted) -> Recipe:
    """By count, or by count over the gene's median.

    A gene without a median has no place in that order, so it is no token (Geneformer's rule).
    """
    if config.rank_normalization == "none":
        return recipe(config, fitted.fit, BY_COUNT, NORMALISED)
    medians = fitted.gene_medians
    assert medians is not None, "rank_normalization gene_median needs fitted medians"
    made = recipe(config, fitted.fit, BY_WEIGHT, NORMALISED)
    return made._replace(medians=np.ascontiguousarray(medians, dtype=np.float64))


@compiled
def rank_counts(codes, ends, num, room, state, places, order) -> None:
    """The first `room` entries of a cell, by their codes of distinct_counts.

    A counting sort, then the order of equal ones is drawn as far as it is seen.
    """
    size = len(codes)
    for code in range(num):
        places[code] = size - ends[code]
    for entry in range(size):
        code = codes[entry]
        order[places[code]] = entry
        places[code] += 1
    for code in range(num - 1, -1, -1):
        begin = size - ends[code]
        if begin >= room:
            break
        shuffle(order, begin, places[code], room - begin, state)


@compiled
def rank_weights(weights, state, places, other, order) -> None:
    """All entries of a cell; equal ones in the order of a shuffle, which the sort leaves."""
    size = len(weights)
    # Bits of positive floats ascend as they do.
    bits = weights.view(np.uint32)
    for entry in range(size):
        other[entry] = entry
    shuffle(other, 0, size, size, state)
    _sort_by_digit(bits, 0, other[:size], places, order)
    _sort_by_digit(bits, 1, order[:size], places, other)
    _sort_by_digit(bits, 2, other[:size], places, order)


@compiled
def _sort_by_digit(bits, digit, order, places, out) -> None:
    """One pass of a radix sort, largest digit first, equal ones in the order they have."""
    shift = np.uint32(BITS_OF_DIGIT * digit)
    places[:DIGITS] = 0
    for entry in order:
        places[(bits[entry] >> shift) & np.uint32(DIGITS - 1)] += 1
    begin = 0
    for value in range(DIGITS - 1, -1, -1):
        places[value], begin = begin, begin + places[value]
    for entry in order:
        value = (bits[entry] >> shift) & np.uint32(DIGITS - 1)
        out[places[value]] = entry
        places[value] += 1
