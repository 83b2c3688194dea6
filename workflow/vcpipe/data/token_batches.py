"""Cells of the store -> padded token arrays with some values hidden, for masked pretraining."""

# B cells, T tokens

from collections.abc import Mapping

import numpy as np

from vcpipe.config.loading import WEIGHTED
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.draws import Draw
from vcpipe.data.label_numbers import LabelNumbers
from vcpipe.data.loading.reader import Buffer
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.tokens.collate import collate
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.masking import Hiding
from vcpipe.data.tokens.packing import Empty, Specials
from vcpipe.data.tokens.tokenize import recipe_of
from vcpipe.data.tokens.truncation import Measured, measured_by


class TokenBatches:
    """Batches of <cls> and a cell's genes; what is drawn of a cell is named by its key alone."""

    def __init__(
        self,
        special: Specials,
        fitted: Fitted,
        config: Pretrain,
        hiding: Hiding,
        reader: StoreReader,
        empty: Empty = np.empty,
        hidden_last: bool = False,
        labels: Mapping[str, LabelNumbers] | None = None,
    ):
        self.reader, self.special, self.empty = reader, special, empty
        self.hidden_last, self.labels = hidden_last, labels or {}
        self.recipe = recipe_of(config.tokenizer, fitted)
        self.hiding = hiding
        self.draws_repeat = config.loading.strategy in WEIGHTED

    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """genes, values, real and chosen [B, T], and the true genes and values of the chosen.

        Besides them where the real tokens lie (see Collated.padded), and the labels [B].
        """
        measured, positions = None, self.reader.store_positions(buffer.positions[places])
        if self.recipe.most_absent:
            measured = self._measured(positions)
        cells, chosen = buffer.cells(places)
        keys = cells.keys[chosen]
        if self.draws_repeat:
            # A cell that is drawn again gets other genes, ties and masks.
            keys ^= draw.generator().integers(2**63, size=len(keys), dtype=np.uint64)
        made = collate(
            *(cells, chosen, keys, self.recipe, self.special, Draw(draw.seed, draw.epoch)),
            hiding=self.hiding,
            measured=measured,
            is_padded=True,
            empty=self.empty,
        )
        labels = {name: its.of(positions) for name, its in self.labels.items()}
        return made.padded(self.empty, self.hidden_last) | labels

    def _measured(self, cells: np.ndarray) -> Measured:
        """A gene that the cell's dataset did not measure is unknown, not zero."""
        store = self.reader.store
        measured = store.measured["rna"]
        datasets = sorted(measured)
        its = store.labels(cells, ["dataset"])["dataset"].to_pylist()
        numbers = {name: number for number, name in enumerate(datasets)}
        return measured_by([measured[name] for name in datasets], [numbers[name] for name in its])
