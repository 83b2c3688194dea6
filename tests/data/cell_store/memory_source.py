"""A source that is in memory, and stores made of it."""

import functools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.config.cell_store import CellStore
from vcpipe.config.fitting import Filters
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.cell_store.scattering import SourceToStore, StoreVocabulary
from vcpipe.data.cell_store.writing import write_store
from vcpipe.data.sources.source import Chunk, Features

EVERY_CELL = Filters(min_genes=0)


@dataclass
class MemorySource:
    """Cells × features by modality, as a file would give them."""

    dataset: str
    cells: np.ndarray
    matrices: dict[str, sp.csr_matrix]
    names_of_features: dict[str, np.ndarray]
    labels: pd.DataFrame
    species: str = "human"
    path: str = "memory.h5ad"
    data_digest: str = "0123456789abcdef"
    chunk_size: int = 7
    features: dict[str, Features] = field(init=False)

    def __post_init__(self):
        self.features = {name: Features(its) for name, its in self.names_of_features.items()}

    def __len__(self) -> int:
        return len(self.cells)

    def names(self, rows):
        return self.cells[rows].astype(object)

    def chunks(self, wanted=None):
        rows = np.arange(len(self)) if wanted is None else np.flatnonzero(wanted)
        for start in range(0, len(rows), self.chunk_size):
            part = rows[start : start + self.chunk_size]
            yield Chunk(part, {name: its[part] for name, its in self.matrices.items()})

    def reordered(self, cells: np.ndarray, columns: dict[str, np.ndarray], chunk_size: int):
        """The same cells and features in another order."""
        matrices = {}
        for name, its in self.matrices.items():
            matrices[name] = its[cells][:, columns[name]]
            matrices[name].sort_indices()
        names = {name: its[columns[name]] for name, its in self.names_of_features.items()}
        return MemorySource(
            self.dataset,
            self.cells[cells],
            matrices,
            names,
            self.labels.iloc[cells],
            self.species,
            self.path,
            self.data_digest,
            chunk_size,
        )


@functools.cache
def names(modality: str, number: int) -> np.ndarray:
    return np.array([f"{modality}{place:06d}" for place in range(number)])


def source_of(
    dataset: str,
    matrices: dict[str, np.ndarray],
    labels: dict | None = None,
    start: int = 0,
    species: str = "human",
    features: dict[str, np.ndarray] | None = None,
) -> MemorySource:
    """Cells named by number, and columns named as the first features of the vocabulary."""
    num_cells = len(next(iter(matrices.values())))
    return MemorySource(
        dataset,
        np.array([f"cell{start + place:05d}" for place in range(num_cells)]),
        {name: sp.csr_matrix(np.asarray(its, dtype=np.float64)) for name, its in matrices.items()},
        features or {name: names(name, its.shape[1]) for name, its in matrices.items()},
        pd.DataFrame(
            {name: pd.Categorical(its) for name, its in (labels or {}).items()},
            index=range(num_cells),
        ),
        species,
    )


@functools.cache
def vocabularies_of(species: tuple[str, ...] = ("human",), **sizes: int):
    made = {}
    for modality, size in sizes.items():
        known = names(modality, size)
        made[modality] = {its: StoreVocabulary(known, modality + its) for its in species}
    return made


def to_store(source, vocabularies, sets=None, filters: Filters = EVERY_CELL) -> SourceToStore:
    ids = {}
    for modality, features in source.features.items():
        # Names of the vocabulary are sorted; others are shorter or longer.
        known = vocabularies[modality][source.species].names
        place = np.searchsorted(known, features.names) % len(known)
        found = known[place] == features.names
        ids[modality] = np.where(found, place, -1).astype(np.int32)
    sets = np.zeros(len(source), dtype=np.uint8) if sets is None else np.asarray(sets, np.uint8)
    return SourceToStore(source, ids, sets, filters, ids)


def stored(path, sources, vocabularies, threads: int = 1, about=None, **settings):
    """Write a store and open it; sources without sets are all train."""
    made = [s if isinstance(s, SourceToStore) else to_store(s, vocabularies) for s in sources]
    write_store(path, made, CellStore(**settings), about or {}, threads, vocabularies=vocabularies)
    return open_store(path)


def content(store, modality: str = "rna", positions=None) -> dict[tuple[str, str], dict[int, int]]:
    """Counts by id of each cell, by dataset and name."""
    positions = np.arange(len(store)) if positions is None else positions
    labels = store.labels(positions, ["dataset", "cell"]).to_pydict()
    rows = store.rows(positions, modality)
    return {
        key: dict(zip(rows.ids[start:stop].tolist(), rows.counts[start:stop].tolist(), strict=True))
        for *key_parts, start, stop in zip(
            labels["dataset"], labels["cell"], rows.starts[:-1], rows.starts[1:], strict=True
        )
        for key in [tuple(key_parts)]
    }
