"""Counts drawn from predicted values: as many as asked for, and with the predicted means."""

import numpy as np
import pytest
import scipy.sparse as sp

from vcpipe.data.count_sampling import draw_counts, scaled_to_median
from vcpipe.errors import InputError

NUM_CELLS, NUM_GENES, DEPTH = 400, 50, 20_000


@pytest.fixture
def values_CG(generator) -> np.ndarray:
    """One profile for all cells, as baselines predict it: log1p of counts scaled to 10,000."""
    rate_G = generator.gamma(1.0, 1.0, NUM_GENES)
    return np.tile(np.log1p(1e4 * rate_G / rate_G.sum()), (NUM_CELLS, 1)).astype(np.float32)


def test_multinomial_counts_sum_to_the_library_sizes(values_CG, generator):
    sizes_C = generator.integers(100, 30_000, NUM_CELLS)
    counts_CG = draw_counts(values_CG, sizes_C, "multinomial", generator, "A+ctrl")
    assert sp.issparse(counts_CG)
    assert counts_CG.dtype == np.float32
    assert (counts_CG.data % 1 == 0).all()
    np.testing.assert_array_equal(counts_CG.sum(axis=1).A1, sizes_C)


def test_poisson_counts_sum_to_the_library_sizes_on_average(values_CG, generator):
    sizes_C = np.full(NUM_CELLS, DEPTH)
    sums_C = draw_counts(values_CG, sizes_C, "poisson", generator, "A+ctrl").sum(axis=1).A1
    assert abs(sums_C.mean() - DEPTH) < 5 * np.sqrt(DEPTH / NUM_CELLS)
    assert 0.7 < sums_C.var() / DEPTH < 1.3


@pytest.mark.parametrize("count_sampling", ["multinomial", "poisson"])
def test_log_normalised_counts_have_the_predicted_means_within_sampling_error(
    values_CG, generator, count_sampling
):
    sizes_C = np.full(NUM_CELLS, DEPTH)
    counts_CG = draw_counts(values_CG, sizes_C, count_sampling, generator, "A+ctrl").toarray()
    again_CG = np.log1p(1e4 * counts_CG / counts_CG.sum(axis=1, keepdims=True))
    rate_G = np.expm1(values_CG[0].astype(float))
    # Of a count with mean and variance m, log1p(s x count) has a standard deviation of about
    # s sqrt(m) / (1 + s m), and a mean that lies half its square below log1p(s m).
    spread_G = np.sqrt(rate_G * 1e4 / DEPTH) / (1 + rate_G)
    error_G = again_CG.mean(axis=0) - values_CG[0]
    assert (abs(error_G + spread_G**2 / 2) < 4 * spread_G / np.sqrt(NUM_CELLS) + 0.002).all()
    means_G = (1e4 * counts_CG / DEPTH).mean(axis=0)
    error_of_means_G = np.sqrt(rate_G * 1e4 / DEPTH / NUM_CELLS)
    assert (abs(means_G - rate_G) < 4.5 * error_of_means_G).all()


def test_cells_are_drawn_one_after_the_other_however_many_at_once(values_CG):
    """So that the size of a block changes no count."""
    sizes_C = np.full(NUM_CELLS, 500)
    whole = draw_counts(values_CG, sizes_C, "multinomial", np.random.default_rng(3), "A+ctrl")
    generator = np.random.default_rng(3)
    parts = [
        draw_counts(values_CG[rows], sizes_C[rows], "multinomial", generator, "A+ctrl")
        for rows in (slice(0, 7), slice(7, None))
    ]
    assert abs(sp.vstack(parts) - whole).nnz == 0


def test_a_cell_that_expresses_nothing_has_no_counts_to_draw(values_CG, generator):
    values_CG[3] = 0
    with pytest.raises(InputError, match=r"1 cells predicted for A\+ctrl express no gene"):
        draw_counts(values_CG, np.full(NUM_CELLS, 9), "poisson", generator, "A+ctrl")
    values_CG[5, 0] = np.nan
    with pytest.raises(InputError, match=r"2 cells predicted for .*or have values that are no num"):
        draw_counts(values_CG, np.full(NUM_CELLS, 9), "multinomial", generator, "A+ctrl")


def test_library_sizes_keep_their_spread_around_another_median():
    sizes_C = scaled_to_median(np.array([100, 200, 400]), 50_000.0)
    assert sizes_C.tolist() == [25_000, 50_000, 100_000]
    assert scaled_to_median(np.array([1, 1000, 1000]), 10.0).min() == 1
