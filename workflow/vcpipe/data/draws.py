"""What is drawn for a cell, each from a stream of its own, and how: samples and orders."""

from dataclasses import dataclass

import numpy as np

from vcpipe.data.cell_keys import below, fraction
from vcpipe.data.sparse_rows import compiled

# `purpose` of cell_keys.stream.
BIN_TIES, KEPT, RANK_TIES, ABSENT, ABSENT_ORDER, CHOSEN, SHOWN, RATIO, PARTNER = range(101, 110)


@dataclass(frozen=True)
class Draw:
    """Which draw of a cell: another seed or epoch gives another, the same gives the same."""

    seed: int
    epoch: int


@compiled
def is_taken(state, place, wanted, left) -> bool:
    """Whether to take the next of `left` things when `wanted` of them are to be taken.

    Asked of each in turn, every choice of `wanted` things is equally likely (selection sampling).
    """
    return fraction(state, place) * left < wanted


@compiled
def shuffle(things, first, last, wanted, state) -> None:
    """Draw the order of things[first:last]; only the first `wanted` of them are looked at."""
    for place in range(first, min(first + wanted, last - 1)):
        other = place + below(state, place, last - place)
        things[place], things[other] = things[other], things[place]


@compiled
def rounded(value: float) -> int:
    """Python's round, to even at a half."""
    return int(np.rint(value))
