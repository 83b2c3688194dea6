import numpy as np
import pytest
from scipy import stats

from vcpipe.data.loading import permutation
from vcpipe.data.loading.permutation import Permutation


@pytest.fixture(params=["held", "walked"])
def make(request, monkeypatch):
    if request.param == "walked":
        monkeypatch.setattr(permutation, "MOST_HELD", 0)
    return Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 17, 1000, 4097])
def test_every_number_comes_once(make, size):
    assert sorted(make(size, 0, 1)[:].tolist()) == list(range(size))


def test_a_piece_of_the_order_is_the_same_as_in_the_whole(make):
    order = make(1000, 3, 4)
    assert np.array_equal(order[:][200:300], order[200:300])
    places = np.array([7, 999, 7, 0])
    assert np.array_equal(order[places], order[:][places])


def test_another_key_gives_another_order(make):
    orders = [make(100, *key)[:].tolist() for key in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] == make(100, 0, 0)[:].tolist()
    assert len({tuple(its) for its in orders}) == 3


def test_first_numbers_and_neighbours_are_as_random_ones(make):
    first, steps = [], []
    for key in range(4000):
        its = make(50, key)[:2]
        first.append(its[0])
        steps.append((its[1] - its[0]) % 50)
    for found, expected in ((first, np.full(50, 80)), (steps[:], np.r_[0, np.full(49, 4000 / 49)])):
        counts = np.bincount(found, minlength=50)
        which = expected > 0
        assert not counts[~which].any()
        assert stats.chisquare(counts[which], expected[which]).pvalue > 1e-4


def test_a_long_order_takes_no_memory():
    order = Permutation(10**12, 0)
    found = order[10**11 : 10**11 + 1000]
    assert order.held is None
    assert len(np.unique(found)) == 1000
    assert 0 <= found.min() < 10**11 * 2 < found.max() < 10**12
