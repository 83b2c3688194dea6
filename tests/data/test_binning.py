import numpy as np
import pytest

from vcpipe.data.binning import bin_cell


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
