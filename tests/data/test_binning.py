import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpipe.config.fitting import Fit
from vcpipe.config.tokens import Tokenizer
from vcpipe.data.binning import (
    bin_cell,
    bin_values,
    quantile_bins,
    uniform_value_bins,
)
from vcpipe.data.draws import Draw
from vcpipe.data.normalised_values import normalised_values
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.tokenize import bins
from vcpipe.errors import InputError

few = settings(max_examples=60, deadline=None, derandomize=True)


def test_bins_run_from_one_to_the_last(generator):
    bins = bin_cell(generator.lognormal(size=500), 51)
    assert (bins.min(), bins.max()) == (1, 50)


def test_binning_does_not_depend_on_the_order_of_genes(generator):
    values = generator.poisson(3.0, 200) + 1.0
    order = generator.permutation(200)
    assert np.array_equal(bin_cell(values, 51)[order], bin_cell(values[order], 51))


def test_counts_and_their_logarithms_have_the_same_bins(generator):
    counts = generator.poisson(4.0, 300) + 1.0
    assert np.array_equal(bin_cell(counts, 51), bin_cell(np.log1p(counts * 1e4 / 7321), 51))


def test_larger_values_never_have_smaller_bins(generator):
    values = np.sort(generator.poisson(3.0, 200) + 1.0)
    assert (np.diff(bin_cell(values, 51).astype(int)) >= 0).all()


@pytest.mark.parametrize("values", [[5.0], [2.0, 2.0, 2.0]])
def test_a_single_value_takes_the_middle_bin(values):
    assert set(bin_cell(np.array(values), 51)) == {25}


def test_bins_lie_in_the_range_that_scgpt_draws_from(generator):
    """scGPT's _digitize draws between these two digits; ours takes the middle."""
    values = generator.poisson(2.0, 100) + 1.0
    edges = np.quantile(values, np.linspace(0, 1, 50))
    upper, lower = np.digitize(values, edges), np.digitize(values, edges, right=True)
    bins = bin_cell(values, 51)
    assert (bins >= lower).all()
    assert (bins <= upper).all()


def rows_of(counts_BG, keys=None) -> Rows:
    counts = sp.csr_matrix(counts_BG)
    return Rows(
        counts.indptr.astype(np.int64),
        counts.indices.astype(np.int32),
        counts.data.astype(np.uint32),
        np.asarray(counts.sum(axis=1)).ravel().astype(np.uint64),
        np.arange(len(counts_BG), dtype=np.uint64) if keys is None else keys,
    )


def scgpt_bins(values: np.ndarray, n_bins: int, uniforms: np.ndarray) -> np.ndarray:
    """What scgpt.preprocess._digitize does, with given numbers."""
    edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
    left, right = np.digitize(values, edges), np.digitize(values, edges, right=True)
    return np.ceil(uniforms * (right - left) + left)


@st.composite
def counts(draw) -> np.ndarray:
    """Cells of few and of many counts, some beyond what is counted in a table, some cells empty."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mean = draw(st.sampled_from([0.5, 3.0, 900.0, 1e6]))
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 90))
    made = generator.poisson(generator.gamma(0.5, 2 * mean, shape))
    made[generator.random(shape) < draw(st.sampled_from([0.0, 0.7, 1.0]))] = 0
    return made


@few
@given(counts(), st.sampled_from([2, 3, 10, 51, 300]), st.integers(0, 100))
def test_quantile_bins_have_the_digits_of_scgpt_for_the_same_draws(counts_BG, n_bins, seed):
    rows = rows_of(counts_BG)
    uniforms = np.random.default_rng(seed).random(len(rows.ids))
    found = quantile_bins(rows, n_bins, uniforms)
    middle = quantile_bins(rows, n_bins)
    for first, last in zip(rows.starts[:-1], rows.starts[1:], strict=True):
        if first < last:
            its, drawn = rows.counts[first:last], uniforms[first:last]
            expected = scgpt_bins(its.astype(np.float32), n_bins, drawn)
            assert np.array_equal(found[first:last], expected)
            assert np.array_equal(middle[first:last], bin_cell(its, n_bins))
            assert np.array_equal(middle[first:last], scgpt_bins(its, n_bins, 0.5))


@few
@given(counts(), st.sampled_from([np.float32, np.float64]), st.integers(0, 100))
def test_bins_of_floats_have_the_digits_of_scgpt_for_the_same_draws(counts_BG, dtype, seed):
    values = np.log1p(counts_BG[counts_BG > 0] * 0.37).astype(dtype)
    uniforms = np.random.default_rng(seed).random(len(values))
    found = bin_values(values, 51, uniforms)
    expected = scgpt_bins(values, 51, uniforms) if len(values) else []
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_edges_that_fall_on_a_value_are_rounded_as_numpy_rounds(generator, dtype):
    """(n - 1) × k / 49 is whole, or nearly: then the last bit of an edge decides."""
    for times in range(1, 60):
        values = np.log1p(generator.gamma(1.0, 3.0, 49 * times + 1)).astype(dtype)
        uniforms = generator.random(len(values))
        assert np.array_equal(bin_values(values, 51, uniforms), scgpt_bins(values, 51, uniforms))


@few
@given(counts(), st.randoms(use_true_random=False))
def test_bins_do_not_depend_on_the_order_of_cells_and_genes(counts_BG, random):
    cells, genes = (list(range(size)) for size in counts_BG.shape)
    random.shuffle(cells)
    random.shuffle(genes)
    keys = np.arange(len(cells), dtype=np.uint64)
    rows, other = rows_of(counts_BG), rows_of(counts_BG[cells], keys[cells])
    middle = dense(rows, quantile_bins(rows, 51), counts_BG.shape)
    drawn = dense(rows, quantile_bins(rows, 51, draw=Draw(3, 4)), counts_BG.shape)
    assert np.array_equal(
        dense(other, quantile_bins(other, 51, draw=Draw(3, 4)), counts_BG.shape), drawn[cells]
    )
    permuted = rows_of(counts_BG[:, genes])
    found = dense(permuted, quantile_bins(permuted, 51), counts_BG.shape)
    assert np.array_equal(found, middle[:, genes])


def dense(rows: Rows, values, shape) -> np.ndarray:
    return sp.csr_matrix((values, rows.ids, rows.starts), shape=shape).toarray()


def test_drawn_ties_lie_evenly_among_the_bins_of_their_value():
    rows = rows_of(np.ones((2000, 40), dtype=int), np.arange(2000, dtype=np.uint64) * 2**40)
    found = quantile_bins(rows, 11, draw=Draw(0, 0))
    shares = np.bincount(found, minlength=11)[1:] / len(found)
    np.testing.assert_allclose(shares, 0.1, atol=0.005)
    assert not np.array_equal(found, quantile_bins(rows, 11, draw=Draw(0, 1)))
    # Neighbouring genes and cells draw on their own.
    both = found.reshape(2000, 40).astype(float)
    assert abs(np.corrcoef(both[:, 0], both[:, 1])[0, 1]) < 0.1
    assert abs(np.corrcoef(both[0::2].ravel(), both[1::2].ravel())[0, 1]) < 0.02


def test_counts_above_those_that_are_counted_keep_their_order():
    rows = rows_of(np.array([[5, 1023, 1024, 70_000, 70_000, 4_000_000_000]]))
    assert quantile_bins(rows, 4).tolist() == bin_cell(rows.counts, 4).tolist()
    assert (np.diff(quantile_bins(rows, 300).astype(int)) >= 0).all()


def test_uniform_bins_have_scmodelforges_digits(generator):
    """torch.bucketize(values, linspace(0, 10, 52)[1:-1]) in float32; the first width is bin 0."""
    rows = rows_of(generator.poisson(1.5, (5, 300)))
    values = normalised_values(rows, Fit())
    inner = np.linspace(0.0, 10.0, 52)[1:-1].astype(np.float32)
    expected = np.searchsorted(inner, values, side="left")
    uniform = Tokenizer(binning_method="uniform", n_bins=51, value_max=10.0)
    assert np.array_equal(bins(rows, uniform, Fitted(Fit()), Draw(0, 0)), expected)
    assert np.array_equal(uniform_value_bins(values, 51, 10.0), expected)
    edge = np.float32(inner[0])
    some = np.array([edge, np.nextafter(edge, 1), 9.99, 10, 30], dtype=np.float32)
    assert uniform_value_bins(some, 51, 10.0).tolist() == [0, 1, 50, 50, 50]


def edge_bins(rows, edges, fit=None, epoch=None) -> np.ndarray:
    ties = "middle" if epoch is None else "random"
    config = Tokenizer(binning_method="quantile", n_bins=len(edges), binning_ties=ties)
    return bins(rows, config, Fitted(fit or Fit(), bin_edges=edges), Draw(0, epoch or 0))


def test_fitted_edges_part_training_values_evenly_and_hold_values_beyond_them(generator):
    rows = rows_of(generator.poisson(30.0, (20, 500)))
    values = normalised_values(rows, Fit())
    edges = np.quantile(values, np.linspace(0, 1, 11))
    found = edge_bins(rows, edges)
    assert (found.min(), found.max()) == (1, 10)
    np.testing.assert_allclose(np.bincount(found)[1:] / len(found), 0.1, atol=0.01)
    assert set(edge_bins(rows, edges + 100)) == {1}
    assert set(edge_bins(rows, edges - 100)) == {10}


def test_equal_edges_never_change_the_number_of_bins():
    """np.unique would leave 3 of 9 bins; a value at several edges takes the middle of its bins."""
    rows = rows_of(np.array([[1, 1, 2, 3, 4]]))
    edges = np.array([1, 1, 1, 1, 1, 1, 2, 3, 4, 4.0])
    as_counted = Fit(normalize=None, log1p=False)
    assert edge_bins(rows, edges, as_counted).tolist() == [3, 3, 6, 7, 8]
    drawn = [edge_bins(rows, edges, as_counted, epoch) for epoch in range(60)]
    assert {its[0] for its in drawn} == {1, 2, 3, 4, 5}
    assert {tuple(its[2:]) for its in drawn} == {(6, 7, 8)}


def test_edges_must_be_as_many_as_bins(generator):
    rows = rows_of(generator.poisson(3.0, (2, 30)))
    config = Tokenizer(binning_method="quantile", n_bins=51)
    fitted = Fitted(Fit(), bin_edges=np.arange(21.0))
    with pytest.raises(InputError, match=r"n_bins is 51 and 21 edges .*num_bin_edges to 51"):
        bins(rows, config, fitted, Draw(0, 0))


def test_detected_peaks_are_open(generator):
    rows = rows_of(generator.poisson(3.0, (2, 30)))
    config = Tokenizer(binning_method="binary")
    assert set(bins(rows, config, Fitted(Fit()), Draw(0, 0))) == {1}
    assert set(quantile_bins(rows, 2)) == {1}
