"""The columns and dictionaries that cell-gears 0.1.2 derives, as JSON: run by its own Python.

python tests/upstream/rank_gears.py FOLDER: it is given X, condition and cell_type of each
*/perturb_processed.h5ad in FOLDER.
"""

from pathlib import Path

import numpy as np
import scanpy as sc
from gears.data_utils import get_DE_genes, get_dropout_non_zero_genes
from offline import answer

COLUMNS = ("condition_name", "dose_val", "control")
DICTIONARIES = (
    "rank_genes_groups_cov_all",
    "non_zeros_gene_idx",
    "non_dropout_gene_idx",
    "top_non_dropout_de_20",
    "top_non_zero_de_20",
)


def main(folder: Path) -> dict:
    found = folder.glob("*/perturb_processed.h5ad")
    return {cells.parent.name: dictionaries(cells) for cells in found}


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
    answer(main)
