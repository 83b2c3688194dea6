"""Token batches, with what models need to know of them beforehand: sizes that depend on the cells.

A device would have to stop and say how many there are; here, on the processor, it is known.
"""

# B cells, T tokens, S tokens that an encoder is shown, N tokens that have a next one

import numpy as np

from vcpipe.data.loading.reader import Buffer
from vcpipe.data.order import BatchDraw
from vcpipe.data.token_batches import TokenBatches


class NextGeneBatches(TokenBatches):
    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """And before [N]: the tokens that have a next one, counted through all cells."""
        made = super().batch(buffer, places, draw)
        has_next_BT = np.zeros_like(made["real"])
        has_next_BT[:, :-1] = made["real"][:, 1:]
        return made | {"before": _laid(np.flatnonzero(has_next_BT), self.empty)}


class ShownGeneBatches(TokenBatches):
    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """And shown [B, S]: places of the tokens that are not hidden; is_shown is False behind."""
        made = super().batch(buffer, places, draw)
        shown_BS, is_shown_BS = shown_places(made["real"] & ~made["chosen"])
        return made | {
            "shown": _laid(shown_BS, self.empty),
            "is_shown": _laid(is_shown_BS, self.empty),
        }


def shown_places(is_shown_BT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the shown tokens of each cell in their order, and which of them are some.

    >>> shown_places(np.array([[True, False, True], [True, False, False]]))[0].tolist()
    [[0, 2], [0, 0]]
    """
    cell_N, place_N = np.nonzero(is_shown_BT)
    number_B = is_shown_BT.sum(axis=1)
    first_B = np.cumsum(number_B) - number_B
    shape = len(is_shown_BT), int(number_B.max(initial=0))
    places_BS, is_some_BS = np.zeros(shape, np.int64), np.zeros(shape, bool)
    at_N = cell_N, np.arange(len(cell_N)) - first_B[cell_N]
    places_BS[at_N], is_some_BS[at_N] = place_N, True
    return places_BS, is_some_BS


def _laid(array: np.ndarray, empty) -> np.ndarray:
    """A copy where arrays that go to a device are to lie."""
    out = empty(array.shape, dtype=array.dtype.type)
    out[...] = array
    return out
