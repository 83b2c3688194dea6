"""A copy of a store without compression, mapped into memory: fast at random while it is cached.

Counts and ids take the 16 bits that nearly all of them fit into; larger counts stand in a list.
"""

import json
from pathlib import Path

import numpy as np

from vcpipe.data.cell_store.blocks import BESIDE
from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled
from vcpipe.errors import InputError
from vcpipe.files import read_json, writing

FORMAT = "unpacked 1"


def unpack(store: CellStore, folder: Path) -> None:
    """Write the copy, a block at a time; positions are those of the store."""
    with writing(folder) as partial:
        partial.mkdir()
        for modality in store.modalities:
            its = store.manifest["modalities"][modality]
            kind = np.uint16 if max(its["num_features"].values()) <= 2**16 else np.uint32
            _unpack_modality(store, modality, partial, kind)
        about = {"format": FORMAT, "data_digest": store.manifest["data_digest"]}
        (partial / "manifest.json").write_text(json.dumps(about | {"modalities": store.modalities}))


def _unpack_modality(store: CellStore, modality: str, folder: Path, kind: type) -> None:
    num_cells = store.runs[-1].stop
    starts = _created(folder / f"starts_{modality}.npy", np.int64, num_cells + 1)
    keys = _created(folder / f"keys_{modality}.npy", np.uint64, num_cells)
    totals = _created(folder / f"totals_{modality}.npy", np.uint64, num_cells)
    num_entries = int(store.index[modality]["entries"].sum(dtype=np.int64))
    ids = _created(folder / f"ids_{modality}.npy", kind, num_entries)
    counts = _created(folder / f"counts_{modality}.npy", np.uint16, num_entries)
    cell = entry = 0
    places, values = [], []
    for number in range(store.num_blocks):
        rows = store.block(number, modality)
        entries = slice(entry, entry + len(rows.ids))
        starts[cell + 1 : cell + len(rows) + 1] = entry + rows.starts[1:]
        keys[cell : cell + len(rows)] = rows.keys
        totals[cell : cell + len(rows)] = rows.totals
        ids[entries] = rows.ids
        large = np.flatnonzero(rows.counts >= BESIDE)
        counts[entries] = np.minimum(rows.counts, BESIDE)
        places.append(entry + large)
        values.append(rows.counts[large])
        cell, entry = cell + len(rows), entries.stop
    assert (cell, entry) == (num_cells, num_entries)
    np.save(folder / f"large_places_{modality}.npy", np.concatenate(places).astype(np.int64))
    np.save(folder / f"large_counts_{modality}.npy", np.concatenate(values).astype(np.uint32))


def _created(path: Path, kind: type, size: int) -> np.ndarray:
    return np.lib.format.open_memmap(path, "w+", dtype=kind, shape=(size,))


class UnpackedStore:
    """rows() of the copy, as of the store; labels and all else stay in the store."""

    def __init__(self, folder: Path, modalities: list[str]):
        self.folder, self.modalities = folder, modalities
        names = ("starts", "ids", "counts", "totals", "keys", "large_places", "large_counts")
        self._arrays = {
            modality: [np.load(folder / f"{name}_{modality}.npy", mmap_mode="r") for name in names]
            for modality in modalities
        }

    def rows(self, positions, modality: str = "rna") -> Rows:
        positions = np.asarray(positions, dtype=np.int64)
        starts, ids, counts, totals, keys, places, values = self._arrays[modality]
        lengths = starts[positions + 1] - starts[positions]
        its_starts = np.append(0, np.cumsum(lengths)).astype(np.int64)
        made_ids = np.empty(its_starts[-1], dtype=np.int32)
        made_counts = np.empty(its_starts[-1], dtype=np.uint32)
        _gather(positions, starts, ids, counts, places, values, made_ids, made_counts)
        return Rows(its_starts, made_ids, made_counts, totals[positions], keys[positions])


def open_unpacked(folder: Path, store: CellStore) -> UnpackedStore:
    """Open the copy of a store; one of another store is refused."""
    folder = Path(folder)
    about = read_json(folder / "manifest.json", "the copy that inspect_store --unpack writes")
    wanted = {"format": FORMAT, "data_digest": store.manifest["data_digest"]}
    if {key: about.get(key) for key in wanted} != wanted:
        raise InputError(
            f"{folder} is no copy of {store.path}: it has {about.get('format')!r}, data_digest "
            f"{about.get('data_digest')!r}; expected {FORMAT!r}, {wanted['data_digest']!r}. Unpack "
            "the store again."
        )
    return UnpackedStore(folder, about["modalities"])


@compiled
def _gather(positions, starts, ids, counts, places, values, ids_out, counts_out) -> None:
    out = 0
    for position in positions:
        for entry in range(starts[position], starts[position + 1]):
            ids_out[out] = ids[entry]
            count = np.uint32(counts[entry])
            if count == BESIDE:
                count = values[np.searchsorted(places, entry)]
            counts_out[out] = count
            out += 1
