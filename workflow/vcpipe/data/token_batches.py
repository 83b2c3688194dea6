"""Cells of the store -> padded token arrays for masked pretraining."""

# B cells, T tokens

import numpy as np

from vcpipe.config.pretrain import MaskedValues
from vcpipe.data.store import CellStore
from vcpipe.data.vocabulary import CLS, PAD, Vocabulary


class TokenBatches:
    """Batches of <cls> and a cell's genes; longer cells are sampled anew each time."""

    def __init__(
        self, store: CellStore, vocabulary: Vocabulary, config: MaskedValues, cells: np.ndarray
    ):
        self.store = store
        self.config = config
        self.cells = cells
        self.pad_id, self.cls_id = vocabulary.ids[PAD], vocabulary.ids[CLS]

    def __len__(self) -> int:
        return len(self.cells)

    def batch(self, positions: np.ndarray, generator: np.random.Generator) -> dict:
        """Arrays genes, values and real (False at padding), all [B, T]."""
        drawn = [self._tokens(cell, generator) for cell in self.cells[positions]]
        longest = max(len(genes) for genes, _ in drawn)
        genes_BT = np.full((len(drawn), longest), self.pad_id, dtype=np.int64)
        values_BT = np.zeros((len(drawn), longest), dtype=np.float32)
        real_BT = np.zeros((len(drawn), longest), dtype=bool)
        for row, (genes, values) in enumerate(drawn):
            genes_BT[row, : len(genes)] = genes
            values_BT[row, : len(genes)] = values
            real_BT[row, : len(genes)] = True
        return {"genes": genes_BT, "values": values_BT, "real": real_BT}

    def _tokens(self, cell: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        genes, values = self.detected(cell)
        room = self.config.max_seq_len - 1
        num_zeros = int(room * self.config.include_zero_genes)
        if num_zeros:
            # A gene that the cell's dataset did not measure is unknown, not zero.
            measured = self.store.measured[self.store.source[cell]]
            absent = np.setdiff1d(measured, genes, assume_unique=True)
            zeros = generator.permutation(absent)[:num_zeros]
        else:
            zeros = genes[:0]
        if len(genes) > room - len(zeros):
            kept = np.sort(generator.permutation(len(genes))[: room - len(zeros)])
            genes, values = genes[kept], values[kept]
        genes = np.concatenate([[self.cls_id], genes, zeros])
        return genes, np.concatenate([[0.0], values, np.zeros(len(zeros))])

    def detected(self, cell: int) -> tuple[np.ndarray, np.ndarray]:
        """A cell's detected genes and their values in the configured style."""
        entries = self.store.entries(cell)
        genes = self.store.genes[entries]
        if self.config.input_style == "binned":
            return genes, self.store.bins[entries].astype(np.float32)
        target_sum = self.store.manifest["target_sum"]
        scaled = self.store.counts[entries] * (target_sum / self.store.totals[cell])
        return genes, np.log1p(scaled).astype(np.float32)


def split_cells(num_cells: int, val_fraction: float, generator: np.random.Generator):
    """Positions for training and for val_loss: at least one of the latter if any is asked for."""
    num_val = max(1, round(num_cells * val_fraction)) if val_fraction else 0
    order = generator.permutation(num_cells)
    return np.sort(order[num_val:]), np.sort(order[:num_val])
