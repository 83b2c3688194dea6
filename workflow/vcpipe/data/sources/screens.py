"""A converted screen as a source of cells among others."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import pandas as pd

from vcpipe.data.checked_counts import ENTRIES_PER_CHUNK
from vcpipe.data.row_readers import spans
from vcpipe.data.screen import Screen
from vcpipe.data.sources.source import Chunk, Features


class ScreenCells:
    """A CellSource of what convert_to_gears wrote, whose counts were checked then."""

    def __init__(self, screen: Screen, species: str = "human"):
        self.screen, self.species = screen, species
        self.dataset, self.path = screen.name, str(screen.path)
        self.data_digest = screen.data_digest
        self.file_digests = (screen.data_digest,)
        self.features: Mapping[str, Features] = {"rna": Features(screen.genes, screen.gene_ids)}

    @cached_property
    def labels(self) -> pd.DataFrame:
        columns = ("condition", "batch", "cell_type")
        return pd.DataFrame({key: pd.Categorical(getattr(self.screen, key)) for key in columns})

    def __len__(self) -> int:
        return len(self.screen.cells)

    def names(self, rows: np.ndarray) -> np.ndarray:
        """Names of some cells (object array of str)."""
        return self.screen.cells[rows].astype(object)

    def chunks(self, wanted: np.ndarray | None = None) -> Iterator[Chunk]:
        """Cells in row order; `wanted` is a mask."""
        rows = np.arange(len(self)) if wanted is None else np.flatnonzero(wanted)
        sizes = self.screen.num_detected[rows]
        for first, last in spans(np.cumsum(sizes), ENTRIES_PER_CHUNK):
            part = rows[first:last]
            yield Chunk(part, {"rna": self.screen.counts(part)})
