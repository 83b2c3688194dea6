"""Random orders that are asked for piece by piece, and never lie in memory where they are long."""

import numpy as np

from vcpipe.data.cell_keys import mixed, stream
from vcpipe.data.order import generator_of
from vcpipe.data.sparse_rows import compiled

# Shorter orders are drawn as a whole, each of all orders equally likely; 4 bytes per thing.
MOST_HELD = 2**20
# Rounds of the network; four are enough to be told from chance by nobody who sees its output only.
ROUNDS = 8
PURPOSE = 0x6F72646572  # names draws of this kind: "order"


class Permutation:
    """The numbers below `size` in an order that is named by a key: slices of it, at any place."""

    def __init__(self, size: int, *key: int):
        self.size, self.held = size, None
        if size <= MOST_HELD:
            self.held = generator_of(*key, PURPOSE).permutation(size).astype(np.uint32)
            return
        self.half_bits = (int(size - 1).bit_length() + 1) // 2
        state = np.uint64(0)
        for part in key:
            state = stream(int(state), int(part), PURPOSE, state)
        self.keys = np.array([mixed(state + np.uint64(r)) for r in range(ROUNDS)], dtype=np.uint64)

    def __getitem__(self, places: slice | np.ndarray) -> np.ndarray:
        """int64 numbers at some places."""
        if isinstance(places, slice):
            places = np.arange(*places.indices(self.size), dtype=np.int64)
        if self.held is not None:
            return self.held[places].astype(np.int64)
        return _permuted(np.asarray(places, dtype=np.int64), self.size, self.half_bits, self.keys)


@compiled
def _permuted(places, size, half_bits, keys):
    """A Feistel network over the next power of four, walked on until it ends below `size`.

    Each round is a bijection, whatever it mixes in, so every number comes once.
    """
    made = np.empty(len(places), dtype=np.int64)
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    for i in range(len(places)):
        value = np.uint64(places[i])
        while True:
            left, right = value >> shift, value & mask
            for key in keys:
                left, right = right, left ^ (mixed(right ^ key) & mask)
            value = (left << shift) | right
            if value < np.uint64(size):
                break
        made[i] = np.int64(value)
    return made
