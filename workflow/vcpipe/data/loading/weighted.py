"""Cells drawn by the weight of their labels, with replacement, in the order in which they lie.

First it is drawn how many draws each stretch of cells gets, and only when a stretch is asked for,
which of its cells: together this is one draw of all, and takes memory for the stretches alone.
"""

# C combinations of labels, S stretches

from collections.abc import Callable, Sequence

import numpy as np

from vcpipe.data.cell_keys import fraction, stream
from vcpipe.data.loading.reader import LabelCodes
from vcpipe.data.order import generator_of
from vcpipe.data.sparse_rows import compiled
from vcpipe.errors import InputError, listed

STRETCH = 256
# Cells whose labels are read together.
CHUNK = 2**16
PURPOSE = 0x64726177  # names draws of this kind: "draw"


def balanced(
    labels: LabelCodes, num_cells: int, columns: Sequence[str], min_count_baseline: int
) -> np.ndarray:
    """Weights by combination: cells / (combinations × (cells of it + min_count_baseline)).

    The baseline keeps rare combinations from being seen too often (scDataset adds 1,000).
    """
    counts_C = np.zeros(len(labels.words), dtype=np.int64)
    num_missing = 0
    for start in range(0, num_cells, CHUNK):
        codes = labels.codes(start, min(start + CHUNK, num_cells))
        num_missing += int((codes < 0).sum())
        counts_C += np.bincount(codes[codes >= 0], minlength=len(counts_C))
    if num_missing == num_cells:
        raise InputError(
            f"loading.weight_by is {listed(columns)}, and no cell has it; name labels of these "
            "cells, or another strategy."
        )
    if num_missing:
        raise InputError(
            f"loading.weight_by is {listed(columns)}, and {num_missing} of {num_cells} cells lack "
            "one of these labels; leave these cells out, or name labels that all cells have."
        )
    present = counts_C > 0
    weights_C = np.zeros(len(counts_C))
    scale = num_cells / present.sum()
    weights_C[present] = scale / (counts_C[present] + min_count_baseline)
    return weights_C


def checked_weights(weights: np.ndarray, what: str) -> np.ndarray:
    """Refuse weights that nothing can be drawn by."""
    weights = np.asarray(weights, dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise InputError(
            f"{len(wrong)} weights of {what} are no weights, the first {weights[wrong[0]]} at "
            f"{wrong[0]}; expected finite numbers that are not negative."
        )
    if not weights.sum() > 0:
        raise InputError(
            f"The {len(weights)} weights of {what} sum to {weights.sum()}; expected more than 0. "
            "Give at least one that can be drawn."
        )
    return weights


class CellWeights:
    """The weight of each cell by its combination of labels, and of each stretch of cells."""

    def __init__(
        self, codes: Callable[[int, int], np.ndarray], weights: np.ndarray, num_cells: int
    ):
        self.weights_C = checked_weights(weights, "combinations of labels")
        self.codes, self.num_cells = codes, num_cells
        parts = [self._sums(start) for start in range(0, num_cells, CHUNK)]
        self.sums_S = checked_weights(np.concatenate([*parts, np.zeros(0)]), "cells")

    def ends(self, stretch: int) -> np.ndarray:
        """Sums of the weights of a stretch's cells, up to each of them."""
        start = stretch * STRETCH
        codes = self.codes(start, min(start + STRETCH, self.num_cells))
        return np.cumsum(self.weights_C[codes])

    def _sums(self, start: int) -> np.ndarray:
        """Weights of the stretches of some cells."""
        stop = min(start + CHUNK, self.num_cells)
        weights = self.weights_C[self.codes(start, stop)]
        return np.add.reduceat(weights, np.arange(0, stop - start, STRETCH))


class WeightedDraws:
    """num_draws draws with replacement, sorted by position; a draw is a number below num_draws."""

    def __init__(self, weights: CellWeights, num_draws: int, seed: int, epoch: int):
        self.weights, self.key = weights, (seed, epoch)
        shares_S = weights.sums_S / weights.sums_S.sum()
        drawn_S = generator_of(seed, epoch, 8).multinomial(num_draws, shares_S)
        self.starts = np.zeros(len(drawn_S) + 1, dtype=np.int64)
        np.cumsum(drawn_S, out=self.starts[1:])

    def positions(self, draws: np.ndarray) -> np.ndarray:
        """Which cells some draws are, in their order."""
        stretches_D = np.searchsorted(self.starts, draws, side="right") - 1
        stretches, back = np.unique(stretches_D, return_inverse=True)
        drawn = [self._in_stretch(int(stretch)) for stretch in stretches]
        begins = np.cumsum([0, *(len(its) for its in drawn)])[:-1]
        joined = np.concatenate(drawn) if drawn else np.zeros(0, dtype=np.int64)
        return joined[begins[back] + draws - self.starts[stretches_D]]

    def _in_stretch(self, stretch: int) -> np.ndarray:
        """The positions of all draws of a stretch, ascending."""
        num_draws = int(self.starts[stretch + 1] - self.starts[stretch])
        drawn = _drawn(self.weights.ends(stretch), num_draws, *self.key, stretch)
        return stretch * STRETCH + drawn


@compiled
def _drawn(ends, num_draws, seed, epoch, stretch):
    """Where sorted uniform numbers fall between the sums of weights."""
    state = stream(seed, epoch, PURPOSE, np.uint64(stretch))
    at = np.empty(num_draws)
    below_all = np.nextafter(ends[-1], 0.0)  # what a product could be rounded up to
    for draw in range(num_draws):
        at[draw] = min(fraction(state, draw) * ends[-1], below_all)
    at.sort()
    found = np.empty(num_draws, dtype=np.int64)
    cell = 0
    for draw in range(num_draws):
        while ends[cell] <= at[draw]:
            cell += 1
        found[draw] = cell
    return found
