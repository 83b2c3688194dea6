"""Batches of scGPT's own loop: its order of cells, and its genes in the order it draws them."""

import numpy as np

from vcpipe.config.training import Training
from vcpipe.data.loading.orders import Order, as_they_are
from vcpipe.data.loading.position_reader import PositionBuffer, PositionReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.perturbation_batches import PerturbationBatches
from vcpipe.data.upstream_draws import UpstreamDraws
from vcpipe.errors import InputError


class UpstreamReader(PositionReader):
    def __init__(self, reader: PositionReader, draws: UpstreamDraws):
        super().__init__(len(reader), reader.labels)
        self.draws = draws

    def order(self, epoch: int) -> Order:
        """Of full batches: the cells that are left over are not seen in this epoch."""
        cells = self.draws.epoch(epoch).cells
        return Order(
            num_draws=len(cells),
            unit=1,
            whole_units=as_they_are,
            short_place=0,
            positions=cells.__getitem__,
            is_mixed=False,
            seed=self.draws.seed,
            epoch=epoch,
        )


class UpstreamBatches:
    """The batches of some cells as scGPT's loop draws them, step by step, in one process."""

    def __init__(self, batches: PerturbationBatches, training: Training, world: int = 1):
        if world > 1:
            raise InputError(
                f"perturbation.gene_sampling is upstream, the draws of one process, and there are "
                f"{world}; expected one GPU, or seeded."
            )
        self.batches = batches
        self.draws = UpstreamDraws(
            training.seed,
            num_cells=len(batches.cells),
            batch_size=training.batch_size,
            num_genes=len(batches.known.columns),
            max_seq_len=batches.config.max_seq_len,
        )
        self.reader = UpstreamReader(batches.reader, self.draws)

    def batch(self, buffer: PositionBuffer, places: np.ndarray, draw: BatchDraw) -> dict:
        genes = self.draws.epoch(draw.epoch).genes
        chosen = None if genes is None else genes[draw.step]
        return self.batches.batch(buffer, places, draw, chosen)

    def notes_of_epoch(self, epoch: int) -> list[str]:
        return self.batches.notes_of_epoch(epoch)
