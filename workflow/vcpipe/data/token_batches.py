"""Cells of the store -> padded token arrays with some values hidden, for masked pretraining."""

# B cells, T tokens

import numpy as np

from vcpipe.config.pretrain import Pretrain
from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.order import BatchDraw
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.masking import mask_values, padded_masked
from vcpipe.data.tokens.packing import Specials
from vcpipe.data.tokens.tokenize import tokenize
from vcpipe.data.tokens.truncation import Measured, measured_by


class TokenBatches:
    """Batches of <cls> and a cell's genes; what is drawn of a cell is named by its key alone."""

    def __init__(
        self,
        store: CellStore,
        special: Specials,
        fitted: Fitted,
        config: Pretrain,
        cells: np.ndarray,
    ):
        self.store, self.special, self.fitted = store, special, fitted
        self.tokenizer, self.ratios = config.tokenizer, config.masked_values.mask_ratio
        self.cells = cells

    def __len__(self) -> int:
        return len(self.cells)

    def batch(self, positions: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """genes, values, real and chosen (hidden values) [B, T], and target_values of these."""
        cells = self.cells[positions]
        named = {"seed": draw.seed, "epoch": draw.epoch}
        tokens = tokenize(
            *(self.store.rows(cells), self.special, self.tokenizer, self.fitted),
            **named,
            measured=self._measured(cells) if self.tokenizer.include_zero_genes else None,
        )
        return padded_masked(mask_values(tokens, self.ratios, self.special, **named), self.special)

    def _measured(self, cells: np.ndarray) -> Measured:
        """A gene that the cell's dataset did not measure is unknown, not zero."""
        measured = self.store.measured["rna"]
        datasets = sorted(measured)
        its = self.store.labels(cells, ["dataset"])["dataset"].to_pylist()
        numbers = {name: number for number, name in enumerate(datasets)}
        return measured_by([measured[name] for name in datasets], [numbers[name] for name in its])


def split_cells(num_cells: int, val_fraction: float, generator: np.random.Generator):
    """Positions for training and for val_loss: at least one of the latter if any is asked for."""
    num_val = max(1, round(num_cells * val_fraction)) if val_fraction else 0
    order = generator.permutation(num_cells)
    return np.sort(order[num_val:]), np.sort(order[:num_val])
