"""Genes and peaks of the same cells, read together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vcpipe.data.cell_store.cells import Cells
from vcpipe.data.loading.loader import TwoBuffers
from vcpipe.data.loading.reader import Buffer
from vcpipe.data.loading.store_reader import StoreBuffer, StoreReader
from vcpipe.data.rows import Rows


@dataclass(frozen=True)
class PairedBuffer:
    """Stands for its genes where only one modality is looked at."""

    rna: StoreBuffer
    atac: StoreBuffer

    @property
    def positions(self) -> np.ndarray:
        return self.rna.positions

    def cells(self, places: np.ndarray) -> tuple[Cells, np.ndarray]:
        return self.rna.cells(places)

    def rows(self, places: np.ndarray) -> Rows:
        return self.rna.rows(places)


class PairedReader(StoreReader):
    """The reader of a store's genes, and with every buffer one of the same cells' peaks."""

    def __init__(self, rna: StoreReader):
        super().__init__(rna.store, rna.range, "rna", rna.groups)
        self.atac = StoreReader(rna.store, rna.range, "atac", rna.groups)

    def begin(self, positions: np.ndarray) -> tuple[PairedBuffer, list[Callable[[], None]]]:
        rna, of_rna = super().begin(positions)
        atac, of_atac = self.atac.begin(positions)
        return PairedBuffer(rna, atac), [*of_rna, *of_atac]


def both(buffer: Buffer) -> Sequence[Buffer]:
    """The buffer of genes and that of peaks, also where a batch lies in two buffers."""
    if isinstance(buffer, TwoBuffers):
        parts = [both(its) for its in buffer.buffers]
        return [TwoBuffers(its, buffer.places) for its in zip(*parts, strict=True)]
    return buffer.rna, buffer.atac
