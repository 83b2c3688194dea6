"""What scGPT's finetuning draws from torch's generator, drawn again without torch.

Its loop (the perturbation tutorial) seeds one generator, from which a DataLoader takes two numbers
at the start of each epoch and every batch a permutation of the genes. Nothing else is drawn where
dropout is 0 and no cell is validated on.
"""

import threading
from dataclasses import dataclass

import numpy as np

from vcpipe.data.sparse_rows import compiled


class TorchGenerator:
    """torch.Generator("cpu"): the Mersenne Twister, 32 bits at a time."""

    def __init__(self, seed: int):
        self.bits = np.random.MT19937()
        # torch looks at the lower half of a seed only.
        self.bits._legacy_seeding(seed & 0xFFFFFFFF)

    def integer(self) -> int:
        """What torch.empty((), dtype=torch.int64).random_() gives."""
        high, low = self.bits.random_raw(2)
        return (int(high) << 32 | int(low)) % 2**63

    def permutation(self, size: int, length: int | None = None) -> np.ndarray:
        """The first numbers of torch.randperm(size)."""
        length = size if length is None else length
        drawn = self.bits.random_raw(max(size - 1, 0))
        return _swapped(drawn[:length], size)[:length]


@compiled
def _swapped(drawn, size):
    order = np.arange(size)
    for place in range(len(drawn)):
        other = place + np.int64(drawn[place] % np.uint64(size - place))
        order[place], order[other] = order[other], order[place]
    return order


@dataclass(frozen=True)
class EpochDraws:
    cells: np.ndarray  # positions of all cells that are seen, batch after batch
    genes: np.ndarray | None  # int32 [steps, sampled genes]; None where all are taken


class UpstreamDraws:
    """The draws of every epoch; an epoch that is asked for out of turn is drawn again."""

    def __init__(
        self, seed: int, num_cells: int, batch_size: int, num_genes: int, max_seq_len: int
    ):
        self.seed, self.num_cells, self.num_genes = seed, num_cells, num_genes
        self.max_seq_len = max_seq_len
        # Its DataLoader leaves out the last batch where that is not full.
        self.num_steps, self.batch_size = num_cells // batch_size, batch_size
        self.lock = threading.Lock()
        self._begin()

    def epoch(self, epoch: int) -> EpochDraws:
        with self.lock:
            if epoch < self.drawn - 1:
                self._begin()
            while self.drawn <= epoch:
                self.last = self._draw()
                self.drawn += 1
            return self.last

    def _begin(self) -> None:
        """At most the epoch that was drawn last is kept: that of VCC takes 20 MB."""
        self.generator, self.drawn = TorchGenerator(self.seed), 0

    def _draw(self) -> EpochDraws:
        self.generator.integer()  # seeds workers, of which there are none
        shuffle = TorchGenerator(self.generator.integer())
        cells = shuffle.permutation(self.num_cells, self.num_steps * self.batch_size)
        if self.num_genes <= self.max_seq_len:
            return EpochDraws(cells, None)
        genes = np.empty((self.num_steps, self.max_seq_len), dtype=np.int32)
        for step in range(self.num_steps):
            genes[step] = self.generator.permutation(self.num_genes, self.max_seq_len)
        return EpochDraws(cells, genes)
