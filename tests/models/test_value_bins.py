import numpy as np
import pytest
import torch

from vcpipe.data.binning import bin_values
from vcpipe.models.value_bins import quantile_bins


@pytest.mark.parametrize("n_bins", [3, 11, 51, 256])
def test_bins_are_those_that_cells_are_prepared_with(generator, n_bins):
    counts_BT = generator.poisson(1.0, (40, 300)) * generator.lognormal(0, 0.3, (40, 1))
    values_BT = np.log1p(counts_BT).astype(np.float32)
    bins_BT = quantile_bins(torch.from_numpy(values_BT), n_bins).numpy()
    for values, bins in zip(values_BT, bins_BT, strict=True):
        detected = values > 0
        np.testing.assert_array_equal(bins[detected], bin_values(values[detected], n_bins))
        assert (bins[~detected] == 0).all()


def test_cells_of_one_value_or_none_have_bins_too():
    values_BT = torch.zeros(3, 20)
    values_BT[1, 4] = 1.5
    values_BT[2] = 2.0
    bins_BT = quantile_bins(values_BT, 51)
    assert bins_BT.unique(dim=1).shape == (3, 2)
    assert bins_BT[0].max() == 0
    assert bins_BT[1, 4] == bins_BT[2, 0] == 25


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)
