"""Where a cell will stand on disk: named by a seed and the cell, whatever stands beside it."""

import numpy as np

from vcpipe.data.cell_keys import stream
from vcpipe.data.sparse_rows import compiled

# Names draws of this kind: "disk".
PURPOSE = 0x6469736B


@compiled
def orders(seed: int, keys: np.ndarray) -> np.ndarray:
    """Where cells stand among their like: uniform numbers named by the seed and the cell."""
    made = np.empty(len(keys), dtype=np.uint64)
    for cell in range(len(keys)):
        made[cell] = stream(seed, 0, PURPOSE, keys[cell])
    return made


class Stretches:
    """Cells come in ranks (a set, a group), of known sizes, and at random within a rank.

    About where a cell will stand follows from both, without knowing the others.
    """

    def __init__(self, sizes: np.ndarray, cells_per_bucket: int):
        self.starts = np.append(0, np.cumsum(sizes)).astype(np.float64)
        self.sizes = np.asarray(sizes, dtype=np.float64)
        self.num_buckets = max(1, -(-int(self.starts[-1]) // cells_per_bucket))

    def bucket(self, rank: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Ascends with (rank, order)."""
        place = self.starts[rank] + self.sizes[rank] * (order / 2.0**64)
        bucket = (place * (self.num_buckets / self.starts[-1])).astype(np.int64)
        return np.minimum(bucket, self.num_buckets - 1)
