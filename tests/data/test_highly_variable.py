import warnings
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from tests.memory_source import MemorySource
from vcpipe.config.fitting import Filters, Fit
from vcpipe.data.fitting import fit
from vcpipe.data.training_cells import CellsToFit
from vcpipe.data.variable_genes import empty_variable_genes
from vcpipe.errors import InputError

DATA = Path(__file__).parents[2].parent / "shared/data"
RNA = "rna human"
FLAVORS = ["seurat_v3", "seurat", "cell_ranger"]


def random_cells(num_cells, num_genes, batches, seed=0):
    """Counts with means over three orders of magnitude; a few genes vary between cells."""
    generator = np.random.default_rng(seed)
    mean_G = generator.lognormal(-0.5, 1.2, num_genes)
    depth_C1 = generator.lognormal(0, 0.4, (num_cells, 1))
    wild = generator.gamma(0.5, 2.0, (num_cells, num_genes)) * (generator.random(num_genes) < 0.2)
    counts = generator.poisson(mean_G * depth_C1 * np.where(wild > 0, wild, 1))
    labels = pd.Categorical([batches[i % len(batches)] for i in range(num_cells)])
    obs = pd.DataFrame({"batch": labels}, index=[f"c{i}" for i in range(num_cells)])
    var = pd.DataFrame(index=[f"G{i:04d}" for i in range(num_genes)])
    return ad.AnnData(sp.csr_matrix(counts.astype(np.float64)), obs, var)


def cells_to_fit(cells, dataset):
    labels = cells.obs.reset_index(drop=True)
    source = MemorySource(dataset, list(cells.obs_names), {"rna": cells.X}, labels, chunk=501)
    ids = {"rna": np.arange(cells.n_vars, dtype=np.int32)}
    return CellsToFit(source, ids, np.zeros(cells.n_obs, dtype=np.uint8))


def ours(cells, config):
    names = {RNA: list(cells.var_names)}
    return fit([cells_to_fit(cells, "a")], names, [], "v", config, Filters(min_genes=0))


def theirs(cells, flavor, number, batch_key):
    cells = cells.copy()
    if flavor != "seurat_v3":
        sc.pp.normalize_total(cells, target_sum=1e4)
        sc.pp.log1p(cells)
    return sc.pp.highly_variable_genes(
        cells, n_top_genes=number, flavor=flavor, batch_key=batch_key, inplace=False
    )


def assert_same(cells, flavor, number, batch_key):
    """The same genes; where scores are tied at the end of the list, others with the same score."""
    config = Fit(hvg_selection=number, hvg_flavor=flavor, hvg_batch_key=batch_key)
    fitted = ours(cells, config)
    table, expected = fitted.statistics[RNA], theirs(cells, flavor, number, batch_key)
    column = {"seurat_v3": "variance_normalised"}.get(flavor, "dispersion_normalised")
    other = {"seurat_v3": "variances_norm"}.get(flavor, "dispersions_norm")
    np.testing.assert_allclose(table[column], expected[other], rtol=1e-6)
    if batch_key is not None:
        assert np.array_equal(table["num_groups"], expected["highly_variable_nbatches"])
    chosen = set(fitted.record.hvgs[RNA])
    assert len(chosen) == number
    differ = chosen ^ set(expected.index[expected["highly_variable"]])
    if differ:
        keys = [column, "num_groups", *(["median_rank"] if "median_rank" in table else [])]
        scores = table.set_index("name").loc[sorted(differ), keys]
        last = table[table["rank"] == number][keys].iloc[0]
        assert all(np.allclose(scores[key].astype(float), float(last[key])) for key in keys), scores
    assert len(differ) <= 3


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_the_genes_are_scanpys(flavor, batch_key):
    for seed in range(3):
        cells = random_cells(600, 400, ["b0", "b1", "b2"], seed)
        assert_same(cells, flavor, 80, batch_key)


REAL = [
    ("datlinger_jurkat_cropseq_counts.h5ad", "context"),
    ("snareseq_mop_rna_counts.h5ad", "batch"),
    ("snareseq_mop_rna_counts.h5ad", None),
    ("scvi_pbmc10k_protein.h5ad", None),
]


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(("file", "key"), REAL)
def test_the_genes_of_real_cells_are_scanpys(flavor, file, key, monkeypatch):
    if not (DATA / file).exists():
        pytest.skip(f"{file} is not here")
    with warnings.catch_warnings():
        # scvi's file has no encoding metadata.
        warnings.simplefilter("ignore")
        cells = ad.read_h5ad(DATA / file)
    cells.X = sp.csr_matrix(cells.X, dtype=np.float64)
    if key:
        cells.obs = pd.DataFrame(
            {"batch": pd.Categorical(cells.obs[key].astype(str))}, cells.obs_names
        )
    cells = cells[:, np.asarray(cells.X.sum(axis=0)).ravel() > 0].copy()
    cells.var_names = cells.var_names.astype(str)
    # Genes of the same few counts are tied in a batch; scanpy's own sort leaves their order open.
    monkeypatch.setattr(np, "argsort", partial(np.argsort, kind="stable"))
    assert_same(cells, flavor, 500, "batch" if key else None)


def test_genes_that_vary_are_found():
    cells = random_cells(600, 400, ["b0"])
    dense = cells.X.toarray()
    dense[:, 17] = 0
    dense[::10, 17] = 40
    cells.X = sp.csr_matrix(dense)
    for flavor in FLAVORS:
        fitted = ours(cells, Fit(hvg_selection=20, hvg_flavor=flavor, hvg_batch_key=None))
        assert "G0017" in fitted.record.hvgs[RNA]


def test_groups_belong_to_their_dataset():
    one, other = (random_cells(300, 200, ["1", "2"], seed) for seed in (0, 1))
    parts = [cells_to_fit(cells, name) for cells, name in ((one, "a"), (other, "b"))]
    config = Fit(hvg_selection=50)
    table = fit(parts, {RNA: list(one.var_names)}, [], "v", config, Filters()).statistics[RNA]
    assert table["num_groups"].max() > 2


def test_groups_too_small_for_a_curve_are_named():
    cells = random_cells(200, 100, ["b0"])
    for number in (1, 2):
        cells.obs["batch"] = pd.Categorical(["lonely"] * number + ["other"] * (200 - number))
        with pytest.raises(InputError, match=r"a: batch lonely.*another hvg_batch_key"):
            ours(cells, Fit(hvg_selection=5))


def test_more_genes_than_there_are_is_an_error():
    with pytest.raises(InputError, match="hvg_selection is 31, but 30 genes of rna human"):
        ours(random_cells(50, 30, ["b"]), Fit(hvg_selection=31, hvg_flavor="seurat"))


def test_too_many_groups_are_refused_before_memory_is_taken():
    part = cells_to_fit(random_cells(2000, 30, [f"b{number}" for number in range(2000)]), "a")
    with pytest.raises(InputError, match=r"'batch' has 2000 groups.*take 7 GB, more than 4"):
        empty_variable_genes([part], RNA, 20_000, Fit(hvg_selection=5))
