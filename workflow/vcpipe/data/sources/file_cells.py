"""Cells of one file, or of a pair of files, as a source."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcpipe.data.checked_counts import ENTRIES_PER_CHUNK
from vcpipe.data.row_readers import MemoryRows, Rows, copied_rows, spans
from vcpipe.data.sources.cells import names_of
from vcpipe.data.sources.matrix import CellMatrix
from vcpipe.data.sources.pairing import Overlap
from vcpipe.data.sources.source import Chunk, Features

# Cells whose chunks are planned together.
ROWS_PLANNED = 2**20


@dataclass(frozen=True)
class FileCells:
    """A CellSource; each cell is a row of every matrix."""

    dataset: str
    species: str
    matrices: Mapping[str, CellMatrix]  # by modality; the first one names the cells
    rows: Mapping[str, np.ndarray | None]  # by modality: rows of the cells; None: all, in order
    labels: pd.DataFrame
    prefix: str  # of cells' names
    data_digest: str
    file_digests: tuple[str, ...]
    overlap: Overlap | None = None  # of all files of the dataset, where it has pairs
    orthologs: pd.DataFrame | None = None  # gene, ortholog, fate

    @property
    def path(self) -> str:
        paths = dict.fromkeys(str(matrix.path) for matrix in self.matrices.values())
        return " + ".join(paths)

    @property
    def features(self) -> Mapping[str, Features]:
        return {modality: matrix.features for modality, matrix in self.matrices.items()}

    def __len__(self) -> int:
        return len(self.labels)

    def names(self, rows: np.ndarray) -> np.ndarray:
        """Names of some cells (object array of str)."""
        modality, matrix = next(iter(self.matrices.items()))
        names = names_of(matrix.cells, self._rows_on_disk(modality, np.asarray(rows)))
        return self.prefix + names if self.prefix else names

    def chunks(self, wanted: np.ndarray | None = None) -> Iterator[Chunk]:
        """Cells in row order, so many as have some two million counts; `wanted` is a mask."""
        with ExitStack() as stack:
            readers = {modality: self._reader(modality, stack) for modality in self.matrices}
            for start in range(0, len(self), ROWS_PLANNED):
                rows = np.arange(start, min(start + ROWS_PLANNED, len(self)))
                if wanted is not None:
                    rows = rows[wanted[rows]]
                on_disk = {key: self._rows_on_disk(key, rows) for key in readers}
                sizes = sum(
                    reader.starts[on_disk[key] + 1].astype(np.int64) - reader.starts[on_disk[key]]
                    for key, reader in readers.items()
                )
                for first, last in spans(np.cumsum(sizes), ENTRIES_PER_CHUNK):
                    counts = {
                        key: self.matrices[key].read(reader, on_disk[key][first:last])
                        for key, reader in readers.items()
                    }
                    yield Chunk(rows[first:last], counts)

    def _reader(self, modality: str, stack: ExitStack) -> Rows:
        reader, rows = stack.enter_context(self.matrices[modality].open()), self.rows[modality]
        in_order = rows is None or bool((np.diff(rows) > 0).all())
        small = reader.starts[-1] <= ENTRIES_PER_CHUNK
        if in_order or small or isinstance(reader, MemoryRows):
            return reader
        # Each chunk would read all of a compressed file for its few rows here and there.
        return stack.enter_context(copied_rows(reader, ENTRIES_PER_CHUNK))

    def _rows_on_disk(self, modality: str, rows: np.ndarray) -> np.ndarray:
        its = self.rows[modality]
        return rows if its is None else its[rows]
