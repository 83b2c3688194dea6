"""What scgpt 0.2.4 takes to bin the same cells, as JSON: run by its own Python, never by ours.

python tests/benchmarks/scgpt_peer.py CELLS: CSR counts; its bins go to CELLS_scgpt.npz

scgpt.preprocess is read from the installed package as it is. The package's __init__ is not run: it
imports its models, and with them torchtext, which current versions of torch no longer have.
"""

import json
import logging
import sys
import time
import types
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

SEED = 11


def imported():
    """scgpt.preprocess, which asks its package for a logger and no more."""
    package = types.ModuleType("scgpt")
    package.__path__ = list(find_spec("scgpt").submodule_search_locations)
    package.logger = logging.getLogger("scGPT")
    sys.modules["scgpt"] = package
    from scgpt import preprocess

    return preprocess


def main(path: Path) -> dict:
    cells = ad.AnnData(sp.load_npz(path))
    # Binning alone: neither filters nor normalisation.
    preprocess = imported().Preprocessor(
        use_key="X", normalize_total=False, log1p=False, binning=51
    )
    # It draws from the global generator.
    np.random.seed(SEED)  # noqa: NPY002
    before = time.process_time()
    preprocess(cells)
    cpu = time.process_time() - before
    bins = cells.layers["X_binned"]
    np.savez(path.with_name(f"{path.stem}_scgpt.npz"), bins=bins[bins > 0].astype(np.uint16))
    versions = f"scgpt {version('scgpt')}, numpy {np.__version__}"
    return {"cpu": cpu, "num_cells": cells.n_obs, "version": versions}


if __name__ == "__main__":
    sys.stdout, out = sys.stderr, sys.stdout
    print(json.dumps(main(Path(sys.argv[1]))), file=out)
