"""Raw counts for the benchmarks of binning and tokenizers: CSR in FOLDER/NAME.npz."""

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from vcpipe.data.cell_keys import cell_keys
from vcpipe.data.rows import Rows

BLOCK = 256


def write_cells(path: Path, num_cells: int, num_genes: int, detected: float) -> float:
    """Write Poisson counts of log-normal means, float32; return the detected genes per cell.

    The depth is such that a cell detects the asked share of genes.
    """
    generator = np.random.default_rng(0)
    mean_G = generator.lognormal(0, 1.85, num_genes)
    low, high = 1e-6, 1e6
    while high / low > 1.0001:
        depth = np.sqrt(low * high)
        low, high = (
            (depth, high) if (-np.expm1(-mean_G * depth)).mean() < detected else (low, depth)
        )
    parts = []
    for start in range(0, num_cells, BLOCK):
        depth_C = depth * generator.lognormal(0, 0.2, (min(BLOCK, num_cells - start), 1))
        parts.append(sp.csr_matrix(generator.poisson(mean_G * depth_C).astype(np.float32)))
    cells = sp.vstack(parts, format="csr")
    sp.save_npz(path, cells, compressed=False)
    return cells.nnz / num_cells


def read_rows(path: Path, first_id: int = 0) -> Rows:
    """The cells as the store gives them; gene i has id first_id + i."""
    cells = sp.load_npz(path)
    return Rows(
        cells.indptr.astype(np.int64),
        (cells.indices + first_id).astype(np.int32),
        cells.data.astype(np.uint32),
        np.asarray(cells.sum(axis=1)).ravel().astype(np.uint64),
        cell_keys("bench", [str(number) for number in range(cells.shape[0])]),
    )


def batches(rows: Rows, size: int) -> list[Rows]:
    """Consecutive cells, a batch at a time."""
    made = []
    for start in range(0, len(rows), size):
        stop = min(start + size, len(rows))
        its = slice(rows.starts[start], rows.starts[stop])
        starts = rows.starts[start : stop + 1] - rows.starts[start]
        cells = slice(start, stop)
        part = rows.ids[its], rows.counts[its], rows.totals[cells], rows.keys[cells]
        made.append(Rows(starts, *part))
    return made
