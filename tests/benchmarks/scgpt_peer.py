"""What scgpt 0.2.4 takes to bin the same cells, as JSON: run by its own Python, never by ours.

python tests/benchmarks/scgpt_peer.py CELLS: CSR counts; its bins go to CELLS_scgpt.npz
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from scgpt.preprocess import Preprocessor

SEED = 11


def main(path: Path) -> dict:
    cells = ad.AnnData(sp.load_npz(path))
    # Binning alone: neither filters nor normalisation.
    preprocess = Preprocessor(use_key="X", normalize_total=False, log1p=False, binning=51)
    # It draws from the global generator.
    np.random.seed(SEED)  # noqa: NPY002
    before = time.process_time()
    preprocess(cells)
    cpu = time.process_time() - before
    bins = cells.layers["X_binned"]
    np.savez(path.with_name(f"{path.stem}_scgpt.npz"), bins=bins[bins > 0].astype(np.uint16))
    return {"cpu": cpu, "num_cells": cells.n_obs, "version": version("scgpt")}


if __name__ == "__main__":
    sys.stdout, out = sys.stderr, sys.stdout
    print(json.dumps(main(Path(sys.argv[1]))), file=out)
