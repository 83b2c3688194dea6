"""Token batches, with what models need to know of them beforehand: how many tokens are which.

A device would have to stop and say it; here, on the processor, it is known.
"""

# B cells, N real tokens of all, M of these that have a next one, S that an encoder is shown

import numpy as np

from vcpipe.data.loading.reader import Buffer
from vcpipe.data.order import BatchDraw
from vcpipe.data.token_batches import TokenBatches
from vcpipe.data.tokens.packing import Empty


class NextGeneBatches(TokenBatches):
    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """And before [M]: which of the packed tokens have a next one in their cell."""
        made = super().batch(buffer, places, draw)
        return made | {"before": laid(having_next(made["starts"]), self.empty)}


class ShownGeneBatches(TokenBatches):
    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """And shown [S]: packed tokens that are not hidden, each cell's from shown_starts on."""
        made = super().batch(buffer, places, draw)
        shown, starts = shown_tokens(made["starts"], made["scored"])
        return made | {
            "shown": laid(shown, self.empty),
            "shown_starts": laid(starts, self.empty),
        }


def having_next(starts: np.ndarray) -> np.ndarray:
    """Packed tokens that are not the last of their cell (int64).

    >>> having_next(np.array([0, 3, 3, 5])).tolist()
    [0, 1, 3]
    """
    has_next_N = np.ones(starts[-1], dtype=bool)
    has_next_N[starts[1:][np.diff(starts) > 0] - 1] = False
    return np.flatnonzero(has_next_N)


def shown_tokens(starts: np.ndarray, scored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Packed tokens that are not hidden (int64), and where those of each cell begin (int32).

    >>> shown, starts = shown_tokens(np.array([0, 3, 5]), np.array([1, 3]))
    >>> shown.tolist(), starts.tolist()
    ([0, 2, 4], [0, 2, 3])
    """
    is_shown_N = np.ones(starts[-1], dtype=bool)
    is_shown_N[scored] = False
    before_N = np.concatenate([[0], np.cumsum(is_shown_N)])
    return np.flatnonzero(is_shown_N), before_N[starts].astype(np.int32)


def laid(array: np.ndarray, empty: Empty) -> np.ndarray:
    """A copy where arrays that go to a device are to lie."""
    out = empty(array.shape, dtype=array.dtype.type)
    out[...] = array
    return out
