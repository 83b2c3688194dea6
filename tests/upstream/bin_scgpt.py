"""What scgpt 0.2.4 bins some cells into, as JSON: run by its own Python, never by ours.

python tests/upstream/bin_scgpt.py FOLDER: cells × genes of FOLDER/cells.h5ad, counts in X and
their normalised logarithms in layers/logarithms; FOLDER/bins.npz is written.
"""

import sys
from pathlib import Path

import anndata as ad
import numpy as np
from scgpt.preprocess import Preprocessor, binning

SEED = 11


def main(folder: Path) -> None:
    cells = ad.read_h5ad(folder / "cells.h5ad")
    found = {}
    for n_bins in (2, 10, 51):
        for key in ("X", "logarithms"):
            seed_scgpt()
            Preprocessor(use_key=key, normalize_total=False, log1p=False, binning=n_bins)(cells)
            found[f"{key}_{n_bins}"] = cells.layers["X_binned"]
        seed_scgpt()
        found[f"row_{n_bins}"] = np.stack([binning(row, n_bins) for row in cells.X.toarray()])
    # Its own normalisation, beside which our bins of counts are held.
    seed_scgpt()
    Preprocessor(use_key="X", normalize_total=1e4, log1p=True, binning=51)(cells)
    found["normalised_51"] = cells.layers["X_binned"]
    np.savez(folder / "bins.npz", **found)


def seed_scgpt() -> None:
    # It draws from numpy's global generator.
    np.random.seed(SEED)  # noqa: NPY002


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
