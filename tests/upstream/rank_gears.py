"""The columns and dictionaries that cell-gears 0.1.2 derives, as JSON: run by its own Python.

python tests/upstream/rank_gears.py FILE ...: each a perturb_processed.h5ad, of which it is given X,
condition and cell_type.
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import scanpy as sc
from gears.data_utils import get_DE_genes, get_dropout_non_zero_genes

COLUMNS = ("condition_name", "dose_val", "control")
DICTIONARIES = (
    "rank_genes_groups_cov_all",
    "non_zeros_gene_idx",
    "non_dropout_gene_idx",
    "top_non_dropout_de_20",
    "top_non_zero_de_20",
)


def dictionaries(cells: Path) -> dict:
    made = sc.read_h5ad(cells)
    plain = sc.AnnData(made.X, made.obs[["condition", "cell_type"]].copy(), made.var.copy())
    plain = get_dropout_non_zero_genes(get_DE_genes(plain, False))
    return {
        "obs": {key: plain.obs[key].tolist() for key in COLUMNS},
        "uns": {
            key: {name: np.asarray(values).tolist() for name, values in plain.uns[key].items()}
            for key in DICTIONARIES
        },
    }


if __name__ == "__main__":
    # GEARS prints.
    with redirect_stdout(sys.stderr):
        result = [dictionaries(Path(cells)) for cells in sys.argv[1:]]
    json.dump(result, sys.stdout)
