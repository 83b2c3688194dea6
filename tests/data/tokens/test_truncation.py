import numpy as np
import pytest

from vcpipe.data.draws import Draw
from vcpipe.data.tokens.truncation import TRUNCATIONS, kept_entries


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("room", [1, 30, 500])
def test_as_many_as_fit_stay_in_order(rows, truncation, room):
    kept = kept_entries(rows, truncation, np.full(len(rows), room), Draw(0, 0))
    assert np.array_equal(np.diff(kept.starts), np.minimum(np.diff(rows.starts), room))
    for cell in range(len(rows)):
        its = kept.entries[kept.starts[cell] : kept.starts[cell + 1]]
        assert (np.diff(its) > 0).all()
        assert ((its >= rows.starts[cell]) & (its < rows.starts[cell + 1])).all()


def test_top_value_keeps_the_largest_counts(rows):
    kept = kept_entries(rows, "top_value", np.full(len(rows), 30), Draw(0, 0))
    for cell in range(len(rows) - 1):
        counts = rows.counts[rows.starts[cell] : rows.starts[cell + 1]]
        its = rows.counts[kept.entries[kept.starts[cell] : kept.starts[cell + 1]]]
        assert np.array_equal(np.sort(its), np.sort(counts)[-30:])


def test_first_keeps_the_lowest_ids(rows):
    kept = kept_entries(rows, "first", np.full(len(rows), 30), Draw(0, 0))
    for cell in range(len(rows) - 1):
        its = kept.entries[kept.starts[cell] : kept.starts[cell + 1]]
        assert np.array_equal(its, rows.starts[cell] + np.arange(30))


def test_every_cell_may_have_room_of_its_own(rows):
    room_B = np.arange(len(rows))
    kept = kept_entries(rows, "random", room_B, Draw(0, 0))
    assert np.array_equal(np.diff(kept.starts)[:-1], room_B[:-1])
