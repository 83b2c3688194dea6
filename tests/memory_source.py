"""Cells in memory as one more kind of source."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.data.sources.source import Chunk, Features
from vcpipe.files import digest


@dataclass
class MemorySource:
    dataset: str
    cells: list[str]
    counts: dict[str, sp.csr_matrix]
    labels: pd.DataFrame = field(default_factory=pd.DataFrame)
    feature_names: dict[str, list[str]] = field(default_factory=dict)
    chunk: int = 7
    path: str = "memory"
    species: str = "human"

    def __post_init__(self):
        self.counts = {
            name: sp.csr_matrix(matrix, dtype=np.float32) for name, matrix in self.counts.items()
        }
        for name, matrix in self.counts.items():
            self.feature_names.setdefault(name, [f"{name}{i}" for i in range(matrix.shape[1])])

    @property
    def features(self):
        return {name: Features(np.array(names)) for name, names in self.feature_names.items()}

    @property
    def data_digest(self):
        return digest([self.dataset, list(self.cells)])

    @property
    def file_digests(self):
        return (self.data_digest,)

    def __len__(self):
        return len(self.cells)

    def names(self, rows):
        return np.array(self.cells, dtype=object)[rows]

    def chunks(self, wanted=None):
        rows = np.arange(len(self)) if wanted is None else np.flatnonzero(wanted)
        for start in range(0, len(rows), self.chunk):
            part = rows[start : start + self.chunk]
            yield Chunk(part, {name: matrix[part] for name, matrix in self.counts.items()})

    def taken(self, rows):
        """The same cells in another order, or some of them."""
        return MemorySource(
            self.dataset,
            [self.cells[row] for row in rows],
            {name: matrix[rows] for name, matrix in self.counts.items()},
            self.labels.iloc[rows].reset_index(drop=True),
            self.feature_names,
            self.chunk,
        )
