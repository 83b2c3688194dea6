"""Which features each dataset measured: without them, no count is no statement."""

from pathlib import Path

import numpy as np

from vcpipe.data.cell_store.layout import measured_path


def write_measured(folder: Path, sources, datasets: list[str], modalities, vocabularies) -> dict:
    """Bits on disk; of each dataset its species and data digests, for the manifest."""
    for modality in modalities:
        most = max(len(its.names) for its in vocabularies[modality].values())
        bits = np.zeros((len(datasets), 2, -(-most // 8)), dtype=np.uint8)
        begun = np.zeros(len(datasets), dtype=bool)
        for each in sources:
            number = datasets.index(each.source.dataset)
            its = np.zeros(most, dtype=bool)
            ids = each.feature_ids.get(modality, np.empty(0, dtype=np.int32))
            its[ids[ids >= 0]] = True
            packed = np.packbits(its)
            # A feature that one part of a dataset lacks is not measured by the dataset.
            bits[number, 0] = packed & bits[number, 0] if begun[number] else packed
            bits[number, 1] |= packed
            begun[number] = True
        np.save(measured_path(folder, modality), bits)
    about: dict[str, dict] = {}
    for each in sources:
        its = about.setdefault(
            each.source.dataset, {"species": each.source.species, "data_digests": []}
        )
        its["data_digests"] = sorted([*its["data_digests"], each.source.data_digest])
    return about


def feature_ids(bits: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.unpackbits(bits)).astype(np.int32)
