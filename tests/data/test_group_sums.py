import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from scipy import stats

from vcpipe.data.group_sums import add_cells, empty_sums, ranking, variance_KG, welch_t_KG


@pytest.fixture
def values(generator):
    """90 cells of 3 groups × 40 genes, a third of the entries non-zero, one gene always zero."""
    dense = generator.gamma(2.0, 1.0, (90, 40)) * (generator.random((90, 40)) < 0.35)
    dense[:, 7] = 0
    return sp.csr_matrix(dense.astype(np.float32))


@pytest.fixture
def group():
    return np.arange(90) % 3


def sums_of(values, group, chunk):
    total = empty_sums(3, values.shape[1])
    for start in range(0, values.shape[0], chunk):
        add_cells(total, values[start : start + chunk], group[start : start + chunk])
    return total


def test_means_variances_and_detected_cells_equal_those_of_the_dense_groups(values, group):
    total = sums_of(values, group, 13)
    dense = values.toarray().astype(np.float64)
    for number in range(3):
        cells = dense[group == number]
        np.testing.assert_allclose(total.mean_KG[number], cells.mean(axis=0))
        np.testing.assert_allclose(variance_KG(total)[number], cells.var(axis=0, ddof=1))
        np.testing.assert_array_equal(total.nonzero_KG[number], (cells != 0).sum(axis=0))
        assert total.num_cells_K[number] == 30


def test_sums_do_not_depend_on_where_chunks_begin(values, group):
    whole, pieces = sums_of(values, group, 90), sums_of(values, group, 7)
    np.testing.assert_array_equal(whole.sums_KG, pieces.sums_KG)
    np.testing.assert_array_equal(whole.squares_KG, pieces.squares_KG)


def test_t_equals_scipys_welch_test(values, group):
    t_KG = welch_t_KG(sums_of(values, group, 90), np.zeros(3, dtype=int))
    dense = values.toarray().astype(np.float64)
    expressed = np.delete(np.arange(40), 7)
    expected = stats.ttest_ind(
        dense[group == 2][:, expressed], dense[group == 0][:, expressed], equal_var=False
    )
    np.testing.assert_allclose(t_KG[2, expressed], expected.statistic)


def test_a_gene_that_is_never_expressed_has_t_zero(values, group):
    t_KG = welch_t_KG(sums_of(values, group, 90), np.zeros(3, dtype=int))
    assert t_KG[1, 7] == 0


def test_equal_scores_keep_the_order_of_the_columns():
    assert ranking(np.array([1.0, -3.0, 3.0, 0.0, 1.0])).tolist() == [1, 2, 0, 4, 3]


def test_ranking_equals_scanpys_wherever_scores_differ(values, group):
    names = [f"g{i:02d}" for i in range(40)]
    cells = ad.AnnData(
        values,
        pd.DataFrame(
            {"group": pd.Categorical(group.astype(str))}, index=[f"c{i}" for i in range(90)]
        ),
        pd.DataFrame(index=names),
    )
    sc.tl.rank_genes_groups(cells, "group", reference="0", method="t-test", rankby_abs=True)
    t_KG = welch_t_KG(sums_of(values, group, 90), np.zeros(3, dtype=int))
    assert len(np.unique(np.abs(t_KG[1]).round(9))) == 40
    for number in (1, 2):
        theirs = list(cells.uns["rank_genes_groups"]["names"][str(number)])
        assert [names[i] for i in ranking(t_KG[number])] == theirs
