"""Pass 2: cells in order are cut into blocks, compressed, and written with their labels."""

# M modalities

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np

from vcpipe.config.cell_store import CellStore
from vcpipe.data.cell_store.blocks import encode
from vcpipe.data.cell_store.buckets import Part
from vcpipe.data.cell_store.cells import Cells, copied
from vcpipe.data.cell_store.labels import LabelWords, LabelWriter
from vcpipe.data.cell_store.layout import GROUPED, LABELS, SETS, Run
from vcpipe.data.cell_store.shards import ShardWriter
from vcpipe.data.cell_store.threads import in_order

Block = list[tuple[Cells, np.ndarray]]  # of each modality: which cells, in which order


class SortedCells:
    """append() parts in order, then close()."""

    def __init__(
        self,
        folder: Path,
        words: LabelWords,
        modalities: list[str],
        settings: CellStore,
        num_ranks: int,
        pool: ThreadPoolExecutor | None,
    ):
        self.settings, self.modalities, self.pool = settings, modalities, pool
        self.labels = LabelWriter(folder / LABELS, words, modalities)
        self.shards = [
            ShardWriter(folder, modality, settings.shard_mb * 2**20) for modality in modalities
        ]
        self.sizes = np.zeros(num_ranks, dtype=np.int64)  # cells of each rank
        self.run_names = [*SETS, GROUPED] if num_ranks > len(SETS) else list(SETS)
        self.first_blocks: list[int] = []
        self.num_blocks = 0
        self.num_entries = [0] * len(modalities)
        self.rest: list[Cells] | None = None  # less than a block, of each modality

    def append(self, part: Part) -> None:
        self.sizes += np.bincount(part.about["rank"], minlength=len(self.sizes))
        self.labels.append(part.names, part.about)

        def encoded(block: Block) -> list[bytes]:
            its = self.settings
            return [encode(cells, chosen, its.compression, its.level) for cells, chosen in block]

        for blocks in in_order(self.pool, encoded, self._blocks(part)):
            self._write(blocks)

    def close(self) -> tuple[dict[str, list[dict]], list[Run]]:
        """Shards of each modality, and where each run begins and ends."""
        for block in self._end_run():
            its = self.settings
            self._write([encode(cells, c, its.compression, its.level) for cells, c in block])
        self.labels.close()
        while len(self.first_blocks) < len(self.run_names):
            self.first_blocks.append(self.num_blocks)
        sizes = np.append(self.sizes[: len(SETS)], self.sizes[len(SETS) :].sum())
        stops = np.cumsum(sizes)
        runs = [
            Run(name, int(stop - size), int(stop), first)
            for name, size, stop, first in zip(
                self.run_names, sizes, stops, self.first_blocks, strict=False
            )
        ]
        shards = zip(self.modalities, self.shards, strict=True)
        return {modality: shard.close() for modality, shard in shards}, runs

    def _write(self, blocks: list[bytes]) -> None:
        for m, block in enumerate(blocks):
            # The header's second number.
            entries = int(np.frombuffer(block[4:8], dtype="<u4")[0])
            self.shards[m].append(block, entries)
            self.num_entries[m] += entries

    def _blocks(self, part: Part) -> Iterator[Block]:
        """Whole blocks, begun with what was left of the part before; runs are not mixed."""
        run = np.minimum(part.about["rank"], len(SETS))
        cuts = [0, *(np.flatnonzero(np.diff(run)) + 1).tolist(), len(run)]
        for start, stop in pairwise(cuts):
            while len(self.first_blocks) <= run[start]:
                yield from self._end_run()
                self.first_blocks.append(self.num_blocks)
            yield from self._run_blocks(part.cells, part.chosen[start:stop])

    def _run_blocks(self, cells: list[Cells], chosen: np.ndarray) -> Iterator[Block]:
        size = self.settings.block_size
        if self.rest:
            missing = size - len(self.rest[0])
            begun = [
                copied([rest, its], [np.arange(len(rest)), chosen[:missing]])
                for rest, its in zip(self.rest, cells, strict=True)
            ]
            chosen, self.rest = chosen[missing:], begun
            if len(begun[0]) == size:
                yield from self._end_run()
        whole = len(chosen) // size * size
        for start in range(0, whole, size):
            self.num_blocks += 1
            yield [(its, chosen[start : start + size]) for its in cells]
        if whole < len(chosen):
            self.rest = [copied([its], [chosen[whole:]]) for its in cells]

    def _end_run(self) -> Iterator[Block]:
        """What is left, as a block."""
        if self.rest:
            self.num_blocks += 1
            yield [(its, np.arange(len(its))) for its in self.rest]
            self.rest = None
