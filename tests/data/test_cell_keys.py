import numpy as np

from vcpipe.data.cell_keys import below, cell_keys, fraction, keyed_generator, number, stream


def test_a_key_depends_on_the_dataset_and_the_name_alone():
    keys = cell_keys("a", ["c1", "c2"])
    assert keys.dtype == np.uint64
    assert np.array_equal(cell_keys("a", ["c2", "c1"]), keys[::-1])
    assert not set(keys) & set(cell_keys("b", ["c1", "c2"]))


def test_streams_of_different_names_are_unlike_and_uniform():
    names = [(0, 0, 0, 5), (1, 0, 0, 5), (0, 1, 0, 5), (0, 0, 1, 5), (0, 0, 0, 2**63 + 5)]
    drawn = []
    for seed, epoch, purpose, key in names:
        state = np.uint64(stream(seed, epoch, purpose, np.uint64(key)))
        drawn.append([fraction(state, place) for place in range(20_000)])
        assert number(state, 3) == number(state, 3)
    drawn = np.array(drawn)
    np.testing.assert_allclose(drawn.mean(axis=1), 0.5, atol=0.01)
    np.testing.assert_allclose(drawn.var(axis=1), 1 / 12, atol=0.002)
    assert abs(np.corrcoef(drawn) - np.eye(len(names))).max() < 0.03


def test_whole_numbers_stay_below_their_end_and_reach_all_of_it():
    state = np.uint64(stream(0, 0, 0, np.uint64(7)))
    drawn = [below(state, place, 6) for place in range(600)]
    assert sorted(set(drawn)) == [0, 1, 2, 3, 4, 5]
    assert min(np.bincount(drawn)) > 60


def test_numpy_code_gets_the_same_numbers_for_the_same_cell():
    first, second = (keyed_generator(1, 2, 3, 2**64 - 1).random(3) for _ in range(2))
    assert np.array_equal(first, second)
