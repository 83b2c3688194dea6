"""The tiny screen that the unit tests share: 120 cells, 30 genes, 5 targets, 2 batches."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from tests.scheduling import pytest_xdist_make_scheduler  # noqa: F401
from vcpipe.config.gears import Conversion
from vcpipe.data.gears import convert
from vcpipe.data.screen import open_screen

GENES = [f"GENE{i:02d}" for i in range(30)]
TARGETS = ["GENE03", "GENE07", "GENE11", "GENE19", "GENE23"]


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def counts() -> ad.AnnData:
    """Raw counts as VCC gives them; each target halves itself and doubles its three next genes."""
    generator = np.random.default_rng(1)
    labels = np.repeat(["non-targeting", *TARGETS], [40, 16, 16, 16, 16, 16])
    mean_CG = np.tile(generator.gamma(2.0, 2.0, len(GENES)), (len(labels), 1))
    for target in TARGETS:
        column = GENES.index(target)
        cells = labels == target
        mean_CG[cells, column] *= 0.5
        mean_CG[np.ix_(cells, np.arange(column + 1, column + 4))] *= 2.0
    obs = pd.DataFrame(
        {
            "target_gene": pd.Categorical(labels),
            "batch": pd.Categorical(np.where(np.arange(len(labels)) % 2, "b1", "b0")),
        },
        index=[f"cell{i:03d}" for i in range(len(labels))],
    )
    var = pd.DataFrame(index=GENES)
    return ad.AnnData(sp.csr_matrix(generator.poisson(mean_CG).astype(np.float32)), obs, var)


@pytest.fixture
def two_cell_types(counts):
    """Two cell types, a combination, and genes that one condition or the controls lack."""
    cells = counts.copy()
    labels = cells.obs["target_gene"].astype(str).to_numpy(copy=True)
    labels[np.flatnonzero(labels == "GENE23")[:8]] = "GENE11+GENE03"
    cells.obs["target_gene"] = pd.Categorical(labels)
    cells.obs["kind"] = np.where(np.arange(len(labels)) % 4 < 2, "K562", "A549")
    dense = cells.X.toarray()
    dense[labels == "GENE07", 5] = 0
    dense[labels == "non-targeting", 9] = 0
    dense[:, 12] = 0
    cells.X = sp.csr_matrix(dense)
    return cells


@pytest.fixture
def screen(counts, tmp_path):
    """The tiny screen after convert_to_gears."""
    counts.write_h5ad(tmp_path / "counts.h5ad")
    converted = tmp_path / "gears" / "perturb_processed.h5ad"
    convert(tmp_path / "counts.h5ad", "tiny", Conversion(), converted)
    return open_screen(converted)
