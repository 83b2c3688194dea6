"""Counts -> counts per target_sum and their logarithms, for the detected features of some cells."""

import numpy as np

from vcpipe.config.fitting import Fit
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import SMALL, compiled

# cell_scale: counts stay as they are.
AS_COUNTED = 0.0


def normalised_values(rows: Rows, fit: Fit) -> np.ndarray:
    """float32 [N]: log(1 + count × target_sum / total), or as much of it as is asked for."""
    values = np.empty(len(rows.ids), dtype=np.float32)
    _normalise(rows.starts, rows.counts, rows.totals, target_sum(fit), fit.log1p, values)
    return values


def target_sum(fit: Fit) -> float:
    return AS_COUNTED if fit.normalize is None else fit.target_sum


@compiled
def cell_scale(total, target_sum) -> float:
    """What a cell's counts are multiplied with."""
    if target_sum == AS_COUNTED or total == 0:
        return 1.0
    return target_sum / np.float64(total)


@compiled
def normalised(count, scale, log1p) -> float:
    """Rounded as sparse_rows.log_rows does."""
    value = np.float64(count) * scale
    return np.log(1.0 + value) if log1p else value


@compiled
def _normalise(starts, counts, totals, target_sum, log1p, out) -> None:
    small = np.zeros(SMALL)
    for row in range(len(starts) - 1):
        scale = cell_scale(totals[row], target_sum)
        for count in range(SMALL):
            small[count] = normalised(count, scale, log1p)
        for entry in range(starts[row], starts[row + 1]):
            count = counts[entry]
            if count < SMALL:
                out[entry] = small[count]
            else:
                out[entry] = normalised(count, scale, log1p)
