"""Which control stands beside a cell where that is drawn anew in every epoch."""

# C cells, P controls of the pool

from collections import Counter

import numpy as np
import pandas as pd

from vcpipe.data.cell_keys import below, cell_keys, stream
from vcpipe.data.draws import PARTNER
from vcpipe.data.order import BatchDraw
from vcpipe.data.screen import CONTROL, Screen
from vcpipe.data.sparse_rows import compiled

# Where a partner comes from.
PAIRED, OWN_TYPE, OWN_BATCH = range(3)


class Partners:
    """Controls for cells, drawn by (seed, epoch, cell) from a pool of rows.

    A partner is of the cell's batch and cell type, else of its cell type, else the one that the
    cell is paired with. A control cell stands beside itself.
    """

    def __init__(
        self,
        screen: Screen,
        cells: np.ndarray,
        paired_with: np.ndarray,
        pool: np.ndarray,
        match_batch: bool,
    ):
        self.match_batch, self.paired_with = match_batch, paired_with
        # By name, so that draws do not depend on the order of rows.
        pool = pool[np.argsort(screen.cells[pool])]
        type_C = pd.factorize(screen.cell_type)[0]
        batch_C = pd.factorize(screen.batch)[0] + type_C * (len(screen.cells) + 1)
        self.keys = cell_keys(screen.name, screen.cells[cells])
        # Those that a cell's partner is drawn from: num rows of the order, from first on.
        self.first, self.num = (np.zeros(len(cells), dtype=np.int64) for _ in range(2))
        self.kind = np.full(len(cells), PAIRED)
        self.order = np.empty(0, dtype=np.int64)
        labels = {OWN_TYPE: type_C} | ({OWN_BATCH: batch_C} if match_batch else {})
        for kind, label_C in labels.items():
            order = pool[np.argsort(label_C[pool], kind="stable")]
            first, last = (
                np.searchsorted(label_C[order], label_C[cells], side) for side in ("left", "right")
            )
            found = last > first
            self.first[found] = len(self.order) + first[found]
            self.num[found], self.kind[found] = (last - first)[found], kind
            self.order = np.concatenate([self.order, order])
        self.is_control = screen.condition[cells] == CONTROL
        self.num[self.is_control] = 0

    def drawn(self, positions: np.ndarray, draw: BatchDraw) -> np.ndarray:
        """Rows of the screen beside the cells at some positions."""
        partners = np.empty(len(positions), dtype=np.int64)
        _draw(
            *(draw.seed, draw.epoch, positions, self.keys, self.first, self.num),
            *(self.order, self.paired_with, partners),
        )
        return partners

    def rows(self) -> np.ndarray:
        """Every row that may be drawn, and some that no cell of these draws."""
        return np.union1d(self.order, self.paired_with[self.num == 0])

    def notes(self) -> list[str]:
        number = Counter(self.kind[~self.is_control].tolist())
        own = "batch and cell type" if self.match_batch else "cell type"
        found = [f"every epoch draws controls anew, of a cell's own {own}"]
        if self.match_batch and number[OWN_TYPE]:
            found.append(
                f"{number[OWN_TYPE]} cells have no control of their batch among those that models "
                "may see, and get one of their cell type"
            )
        if number[PAIRED]:
            found.append(
                f"{number[PAIRED]} cells have no control of their cell type, and keep the one that "
                "they are paired with"
            )
        return found


@compiled
def _draw(seed, epoch, positions, keys, first, num, order, paired_with, partners) -> None:
    for at in range(len(positions)):
        cell = positions[at]
        if num[cell] == 0:
            partners[at] = paired_with[cell]
        else:
            state = stream(seed, epoch, PARTNER, keys[cell])
            partners[at] = order[first[cell] + below(state, 0, num[cell])]
