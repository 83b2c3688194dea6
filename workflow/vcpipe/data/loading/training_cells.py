"""Which cells of a store are learned from, and which val_loss is of."""

import numpy as np

from vcpipe.config.loading import Loading
from vcpipe.data.cell_store.places import orders
from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.loading.store_reader import StoreReader


def readers(
    store: CellStore, config: Loading, val_fraction: float, modality: str = "rna"
) -> tuple[StoreReader, StoreReader]:
    """The store's own val cells, or a share of train: the last, as their order is random."""
    train, val = store.sets["train"], store.sets["val"]
    if not len(val) and val_fraction:
        first = train.stop - max(1, round(len(train) * val_fraction))
        train, val = range(train.start, first), range(first, train.stop)
    judged = StoreReader(store, val, modality)
    if config.strategy == "within_group":
        return by_group(store, train, modality), judged
    return StoreReader(store, train, modality), judged


def by_group(store: CellStore, train: range, modality: str) -> StoreReader:
    """The same cells in the copy that lies by group.

    In a group, too, cells lie in the order of their numbers on disk, so that what train ends with
    is the end of every group.
    """
    groups, begin = store.groups, store.grouped.start
    starts, stops = (groups[name].to_numpy().astype(np.int64) for name in ("start", "stop"))
    if train.stop < store.sets["train"].stop:
        limit = _number_on_disk(store, np.array([train.stop]))[0]
        stops = np.array(
            [_first_from(store, its, limit) for its in zip(starts, stops, strict=True)],
            dtype=np.int64,
        )
    kept = stops > starts
    places = starts[kept] - begin, stops[kept] - begin
    return StoreReader(store, store.grouped, modality, groups=places)


def _number_on_disk(store: CellStore, positions: np.ndarray) -> np.ndarray:
    keys = store.labels(positions, ["key"])["key"].to_numpy()
    return orders(store.manifest["settings"]["seed"], keys.astype(np.uint64))


def _first_from(store: CellStore, group: tuple[int, int], limit: np.uint64) -> int:
    """The first position of a group whose number is not below a limit."""
    low, high = (int(end) for end in group)
    while low < high:
        middle = (low + high) // 2
        if _number_on_disk(store, np.array([middle]))[0] < limit:
            low = middle + 1
        else:
            high = middle
    return low
