"""Counts -> value bins within a cell, as scGPT does it, but the same on every run."""

import numpy as np


def bin_cell(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Bin one cell's non-zero values at its own quantiles; bins run from 1 to n_bins - 1.

    A value that covers several bins (tied counts) takes the middle one; scGPT draws one of them
    from the global generator, so its bins change from run to run. Quantile bins do not depend on
    a monotone transform: counts and their normalised logarithms give the same.

    >>> bin_cell(np.array([1.0, 5.0, 9.0]), 5).tolist()
    [1, 2, 4]
    """
    distinct, codes = np.unique(values, return_inverse=True)
    edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
    lowest = np.searchsorted(edges, distinct, side="left")
    highest = np.searchsorted(edges, distinct, side="right")
    middle = np.clip(-((lowest + highest) // -2), 1, n_bins - 1)
    return middle[codes].astype(np.uint8)
