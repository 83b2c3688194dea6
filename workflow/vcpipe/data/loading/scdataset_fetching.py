"""One fetch through scDataset, of positions that were chosen elsewhere.

Which cell is seen when is decided in data/order.py: scDataset would repeat an epoch's order in
workers that do not persist, and give ranks different numbers of batches.
"""

from collections.abc import Callable

import numpy as np
from scdataset import SamplingStrategy, scDataset
from scdataset.scdataset import get_worker_info


class ChosenPositions(SamplingStrategy):
    """The positions as they are, in each worker of a DataLoader all of them."""

    def __init__(self, positions: np.ndarray):
        super().__init__()
        self.positions = positions

    def get_len(self, data_collection) -> int:
        return len(self.positions)

    def get_indices(self, data_collection, seed=None, rng=None) -> np.ndarray:
        # scDataset gives each worker its part of the fetches; this reader is asked in each for its
        # own positions, so there is a fetch for each.
        worker = get_worker_info()
        return self.positions if worker is None else np.tile(self.positions, worker.num_workers)


def fetch(collection, positions: np.ndarray, read: Callable):
    """read(collection, positions in ascending order), as one batch of scDataset."""
    dataset = scDataset(
        collection,
        ChosenPositions(positions),
        batch_size=len(positions),
        fetch_factor=1,
        fetch_callback=read,
        batch_callback=lambda fetched, places: fetched,
        rank=0,
        world_size=1,
        seed=0,
    )
    (fetched,) = dataset
    return fetched
