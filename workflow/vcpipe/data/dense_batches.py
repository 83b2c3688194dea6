"""Batches for a linear classifier: all genes of a cell, measured or not, and its classes."""

# B cells of a batch, C cells, G genes, T tasks

from typing import Literal

import numpy as np

from vcpipe.data.loading.reader import Buffer, Reader
from vcpipe.data.order import BatchDraw
from vcpipe.data.sparse_rows import compiled

TARGET_SUM = 1e4  # counts of a cell before log1p


class DenseBatches:
    """Cells become dense one batch at a time: a whole buffer of Tahoe's would take 4 GB."""

    def __init__(
        self,
        reader: Reader,
        labels_CT: np.ndarray,
        num_genes: int,
        scale: Literal["counts", "log1p"] = "counts",
    ):
        assert len(labels_CT) == len(reader)
        self.reader, self.labels_CT, self.num_genes, self.scale = (
            reader,
            labels_CT,
            num_genes,
            scale,
        )

    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        del draw  # nothing is drawn
        rows = buffer.rows(places)
        values_BG = np.zeros((len(places), self.num_genes), dtype=np.float32)
        fill(rows.starts, rows.ids, rows.counts, values_BG)
        if self.scale == "log1p":
            scale_log1p(rows.starts, rows.ids, rows.totals, TARGET_SUM, values_BG)
        labels_BT = self.labels_CT[buffer.positions[places]].astype(np.int64)
        return {"counts": values_BG, "labels": labels_BT}


@compiled
def fill(starts, ids, counts, values_BG):
    """Write the counts of cells into rows of zeros."""
    for cell in range(len(starts) - 1):
        for entry in range(starts[cell], starts[cell + 1]):
            values_BG[cell, ids[entry]] = counts[entry]


@compiled
def scale_log1p(starts, ids, totals, target, values_BG):
    """log(1 + counts per `target` counts of the cell), where a count is."""
    for cell in range(len(starts) - 1):
        factor = np.float32(target / totals[cell]) if totals[cell] > 0 else np.float32(0)
        for entry in range(starts[cell], starts[cell + 1]):
            gene = ids[entry]
            values_BG[cell, gene] = np.log1p(values_BG[cell, gene] * factor)
