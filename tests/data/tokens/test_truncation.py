import numpy as np
import pytest

from vcpipe.data.distinct_counts import SMALL, distinct_counts
from vcpipe.data.tokens.recipe import TRUNCATIONS
from vcpipe.data.tokens.truncation import keep_some


def kept(counts: np.ndarray, truncation: str, room: int) -> np.ndarray:
    """Places of the entries of a cell that stay."""
    codes = np.empty(len(counts), dtype=np.int32)
    distinct, ends = (np.empty(len(counts), dtype=np.int64) for _ in range(2))
    num = distinct_counts(counts, codes, distinct, ends, np.zeros(SMALL, dtype=np.int32))
    entries = np.full(len(counts), -1, dtype=np.int32)
    state = np.uint64(5)
    keep_some(TRUNCATIONS[truncation], codes, ends, num, room, state, entries)
    assert (entries[room:] == -1).all()
    return entries[: min(room, len(counts))]


def each_cell(rows):
    for cell in range(len(rows)):
        yield rows.counts[rows.starts[cell] : rows.starts[cell + 1]]


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("room", [0, 1, 30, 500])
def test_as_many_as_fit_stay_in_order(rows, truncation, room):
    for counts in each_cell(rows):
        its = kept(counts, truncation, room)
        assert (np.diff(its) > 0).all()
        assert ((its >= 0) & (its < len(counts))).all()


def test_top_value_keeps_the_largest_counts(rows):
    for counts in each_cell(rows):
        assert np.array_equal(np.sort(counts[kept(counts, "top_value", 30)]), np.sort(counts)[-30:])


def test_first_keeps_the_lowest_ids(rows):
    for counts in each_cell(rows):
        assert np.array_equal(kept(counts, "first", 30), np.arange(min(30, len(counts))))


def test_any_are_kept_alike():
    counts = np.ones(40, dtype=np.uint32)
    codes, ends = np.zeros(40, dtype=np.int32), np.array([40])
    seen, entries = np.zeros(40), np.empty(40, dtype=np.int32)
    for state in range(4000):
        keep_some(TRUNCATIONS["random"], codes, ends, 1, 10, np.uint64(state * 977), entries)
        seen[entries[:10]] += 1
    np.testing.assert_allclose(seen / 4000, 10 / len(counts), atol=0.04)
