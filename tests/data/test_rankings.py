"""Our rankings of genes against scanpy's, on a simulated, a real and a random screen."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import scipy.stats

from tests.rankings import (
    JURKAT,
    SCREENS,
    TOP_LISTS,
    assert_falling,
    assert_ties_alone_differ,
    control_of,
    converted_screen,
    differences,
    top_of,
    welch_scores,
)
from vcpipe.config.gears import Conversion
from vcpipe.data.gears import convert

# scanpy's, which adds column after column to a table.
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.PerformanceWarning")


@pytest.fixture(scope="module", params=SCREENS)
def converted(request, tmp_path_factory) -> ad.AnnData:
    if request.param == "jurkat" and not JURKAT.exists():
        pytest.skip("needs shared/data")
    return ad.read_h5ad(converted_screen(request.param, tmp_path_factory.mktemp("rankings")))


def scanpys(converted: ad.AnnData, dtype: type) -> dict[str, list[str]]:
    """What GEARS asks of scanpy, and takes its lists from."""
    cells = ad.AnnData(sp.csr_matrix(converted.X, dtype=dtype), converted.obs, converted.var)
    (cell_type,) = cells.obs["cell_type"].unique()
    sc.tl.rank_genes_groups(
        cells,
        "condition_name",
        reference=f"{cell_type}_ctrl_1",
        method="t-test",
        rankby_abs=True,
        use_raw=False,
    )
    ranked = cells.uns["rank_genes_groups"]["names"]
    return {name: ranked[name].tolist() for name in ranked.dtype.names}


def scanpys_top(converted: ad.AnnData, key: str) -> dict[str, list[str]]:
    kept, genes = converted.uns[TOP_LISTS[key]], converted.var_names
    ranked = scanpys(converted, np.float32)
    return {name: top_of(ranked[name], kept[name], genes) for name in ranked}


@pytest.mark.parametrize("key", TOP_LISTS)
def test_the_top_genes_are_those_of_scanpy_one_by_one(converted, key):
    # No two of these genes have scores within what scanpy rounds off: the next test.
    assert differences(converted, key, scanpys_top(converted, key)).num_differing == 0


def test_scores_at_the_top_are_too_far_apart_for_scanpy_to_exchange_them(converted):
    margin = np.inf
    for name, kept in converted.uns["non_dropout_gene_idx"].items():
        scores = welch_scores(converted, name, np.float32)
        near = scores.t.iloc[kept].nlargest(21).index
        rounding = scores.rounding[near].to_numpy()
        margin = min(margin, (-np.diff(scores.t[near]) / (rounding[1:] + rounding[:-1])).min())
    print(f"the nearest scores are {margin:.0f} times as far apart as scanpy's rounding reaches")
    assert margin > 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_rankings_are_those_of_scanpy_but_for_equal_scores(converted, dtype):
    assert_ties_alone_differ(converted, scanpys(converted, dtype), dtype)


def test_top_genes_of_few_counts_differ_from_scanpys_among_equal_scores_alone(tmp_path):
    generator = np.random.default_rng(0)
    counts_CG = generator.poisson(0.02, (120, 200)).astype(np.float32)
    counts_CG[:, 0] += 1  # no cell is empty
    labels = np.repeat(["non-targeting", "G1", "G2"], [60, 30, 30])
    obs = pd.DataFrame({"target_gene": labels, "batch": "b0"}, index=[f"c{i}" for i in range(120)])
    genes = pd.DataFrame(index=[f"G{i}" for i in range(200)])
    ad.AnnData(sp.csr_matrix(counts_CG), obs, genes).write_h5ad(tmp_path / "raw.h5ad")
    convert(tmp_path / "raw.h5ad", "few", Conversion(), tmp_path / "few.h5ad")
    few = ad.read_h5ad(tmp_path / "few.h5ad")
    assert_ties_alone_differ(few, scanpys(few, np.float32), np.float32)
    for key in TOP_LISTS:
        found = differences(few, key, scanpys_top(few, key))
        assert found.num_differing > 0
        assert found.largest < 1e-6


def test_genes_without_counts_and_dropouts_are_counted_out(converted):
    detected_CG = converted.X.astype(bool).toarray()
    condition = converted.obs["condition"].to_numpy(str)
    in_control_G = detected_CG[condition == "ctrl"].any(axis=0)
    for name, nonzero in converted.uns["non_zeros_gene_idx"].items():
        expected_G = detected_CG[condition == name.split("_")[1]].any(axis=0)
        np.testing.assert_array_equal(nonzero, np.flatnonzero(expected_G))
        np.testing.assert_array_equal(
            converted.uns["non_dropout_gene_idx"][name],
            np.flatnonzero(expected_G | ~in_control_G),
        )


def students_t(converted: ad.AnnData, name: str) -> np.ndarray:
    groups = converted.obs["condition_name"].to_numpy(str)
    cells, controls = (converted.X[groups == one] for one in (name, control_of(name)))
    return scipy.stats.ttest_ind(cells.toarray(), controls.toarray(), equal_var=True).statistic


def welch_t_of_most_controls(converted: ad.AnnData, name: str) -> np.ndarray:
    groups = converted.obs["condition_name"].to_numpy(str)
    cells, controls = (converted.X[groups == one] for one in (name, control_of(name)))
    most = controls[controls.shape[0] // 10 :]
    return scipy.stats.ttest_ind(cells.toarray(), most.toarray(), equal_var=False).statistic


@pytest.mark.parametrize("statistic", [students_t, welch_t_of_most_controls])
def test_another_test_or_a_tenth_of_the_controls_left_out_does_not_pass(converted, statistic):
    """The rule for ties lets nothing else through."""
    for name in converted.uns["rank_genes_groups_cov_all"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            t_G = np.abs(np.nan_to_num(statistic(converted, name)))
        order = np.argsort(-t_G, kind="stable")
        with pytest.raises(AssertionError, match="stand too far behind"):
            assert_falling(converted.var_names[order], welch_scores(converted, name, np.float32))
