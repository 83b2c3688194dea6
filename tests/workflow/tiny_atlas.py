"""Two files of RNA and ATAC of the same 90 mouse cells, and what names them otherwise."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

NUM_CELLS = 90
GENES = [f"Gene{i:02d}" for i in range(24)]
# One gene has no ortholog.
HUMAN = [gene.upper() for gene in GENES[:-1]]
PEAKS = [f"chr{1 + i % 3}_{1000 * i}_{1000 * i + 500}" for i in range(40)]


def write_atlas(folder: Path) -> None:
    """rna.h5ad, atac.h5ad (in another order), orthologs.csv and chromosomes.tsv."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(4)
    number = np.arange(NUM_CELLS)
    obs = pd.DataFrame(
        {
            "batch": [f"b{i}" for i in number % 3],
            "cell_type": [f"type{i}" for i in number // 3 % 2],
            "donor": [f"d{i}" for i in number % 2],
            "sex": [["f", "m"][i] for i in number % 2],
        },
        index=[f"cell{i:03d}" for i in number],
        dtype="category",
    )
    level = generator.gamma(1.0, 2.0, (2, len(GENES)))[number // 3 % 2]
    genes = _table(generator.poisson(level), obs, GENES)
    peaks = _table(generator.poisson(0.3, (NUM_CELLS, len(PEAKS))), obs[[]], PEAKS)
    genes.write_h5ad(folder / "rna.h5ad")
    peaks[generator.permutation(NUM_CELLS)].copy().write_h5ad(folder / "atac.h5ad")
    lines = [f"{human},{mouse}\n" for human, mouse in zip(HUMAN, GENES, strict=False)]
    (folder / "orthologs.csv").write_text("".join([*lines, f",{GENES[-1]}\n"]))
    places = [f"{human}\tchr{1 + i % 3}\n" for i, human in enumerate(HUMAN)]
    (folder / "chromosomes.tsv").write_text("".join(["gene\tchromosome\n", *places]))


def _table(counts: np.ndarray, obs: pd.DataFrame, names: list[str]) -> ad.AnnData:
    return ad.AnnData(sp.csr_matrix(counts, dtype=np.float32), obs, pd.DataFrame(index=names))
