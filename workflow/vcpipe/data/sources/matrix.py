"""The counts of one modality in one file: rows that are checked as they are read."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from vcpipe.data.checked_counts import ENTRIES_PER_CHUNK, Place, checked_counts
from vcpipe.data.row_readers import Rows, take
from vcpipe.data.sources.cells import Cells, names_of
from vcpipe.data.sources.source import MODALITIES, Features
from vcpipe.errors import InputError


@dataclass(frozen=True)
class Wanted:
    """What is asked of a file, in the words of the configuration."""

    modality: str  # rna or atac
    layer: str
    name_key: str | None
    repeated: str  # features: error or sum
    setting: str  # "atlases.mop.rna"

    @property
    def what(self) -> str:
        return MODALITIES[self.modality]


@dataclass(frozen=True)
class CellMatrix:
    path: Path
    element: str  # where in the file
    wanted: Wanted
    cells: Cells
    features: Features
    place: np.ndarray | None  # of each column on disk: the column here, or -1; None: the same
    open: Callable[[], AbstractContextManager[Rows]]
    called: np.ndarray  # features' names in the file, for messages

    def read(self, reader: Rows, rows: np.ndarray) -> sp.csr_matrix:
        """Checked counts of any rows, in their order."""
        ascending = bool((np.diff(rows) > 0).all())
        order = slice(None) if ascending else np.argsort(rows)
        block = take(reader, rows[order], ENTRIES_PER_CHUNK)
        block = checked_counts(self._placed(block), self._where(rows[order]))
        return block if ascending else block[np.argsort(order)]

    def _placed(self, block: sp.csr_matrix) -> sp.csr_matrix:
        """The wanted columns under their numbers here; columns of one name share a number."""
        if self.place is None:
            return block
        indices, shape = block.indices, (block.shape[0], len(self.features.names))
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self.place):
            raise InputError(
                f"{self.path}: {self.element} has column indices outside its {len(self.place)} "
                "columns; the file is damaged. Write or download it again."
            )
        placed = self.place[indices]
        kept = placed >= 0
        ends = np.append(0, np.cumsum(kept))[block.indptr]
        return sp.csr_matrix((block.data[kept], placed[kept], ends), shape)

    def _where(self, rows: np.ndarray) -> Place:
        return Place(
            f"{self.path}: {self.element}",
            cell=lambda row: names_of(self.cells, rows[[row]])[0],
            feature=lambda column: self.called[column],
            setting=f"{self.wanted.setting}.layer",
            what=self.wanted.what,
        )
