import gc
import weakref

import numpy as np
import pytest

from tests.data.loading.cells_in_a_row import CellsInARow, seen_in, steps_of
from vcpipe.config.loading import Loading
from vcpipe.data.loading.planning import plan_epoch
from vcpipe.data.loading.plans import Share
from vcpipe.errors import InputError

SIZES = [500, 64, 7, 130]
BOUNDS = np.cumsum([0, *SIZES])
GROUP = np.repeat(np.arange(4), SIZES)
CONFIG = Loading(strategy="within_group", fetch_factor=128)


def cells(block_size: int = 16) -> CellsInARow:
    return CellsInARow(BOUNDS[-1], block_size, groups=(BOUNDS[:-1], BOUNDS[1:]))


@pytest.mark.parametrize("world", [1, 3])
def test_all_cells_of_a_step_are_of_one_group(world):
    for step in steps_of(cells(), CONFIG, world, batch_size=8):
        assert len(set(GROUP[seen_in([step])])) == 1


def test_batches_of_a_group_are_nearly_as_large_as_asked():
    sizes = [len(seen_in([step])) for step in steps_of(cells(), CONFIG, 2, batch_size=8)]
    assert max(sizes) == 16
    # A group, or the last part of one, that is smaller makes a smaller batch.
    assert sum(size < 8 for size in sizes) <= 1


def test_groups_come_mixed():
    order = [GROUP[step[0][0]] for step in steps_of(cells(), CONFIG, 1, batch_size=8)]
    changes = np.mean(np.diff(order) != 0)
    assert changes > 0.2


def test_cells_of_a_group_meet_others_in_every_epoch():
    def partners(epoch):
        its = {}
        for step in steps_of(cells(), CONFIG, 1, batch_size=8, epoch=epoch):
            for cell in step[0].tolist():
                its[cell] = set(step[0].tolist()) - {cell}
        return its

    first, second = partners(0), partners(1)
    again = [len(first[cell] & second[cell]) / 7 for cell in range(500)]
    assert np.mean(again) < 0.3


def test_a_group_with_less_than_a_cell_for_each_process_is_left_out_and_counted():
    plan = plan_epoch(cells(), CONFIG, Share(0, 8, 8, 8), 0, 0)
    assert plan.num_left_out == 7
    seen = seen_in(steps_of(cells(), CONFIG, 8, batch_size=8))
    assert sorted(seen) == np.flatnonzero(GROUP != 2).tolist()


def test_cells_that_do_not_lie_by_group_are_refused():
    with pytest.raises(InputError, match=r"within_group, which reads the grouped copy .* Name"):
        plan_epoch(CellsInARow(20), CONFIG, Share(), 0, 0)


def test_groups_that_are_all_too_small_are_refused_with_the_remedy():
    reader = CellsInARow(40, 16, groups=(np.arange(0, 40, 2), np.arange(2, 42, 2)))
    with pytest.raises(InputError, match=r"No group of the 20 has a cell for each of 3 processes"):
        plan_epoch(reader, CONFIG, Share(0, 3, 8, 8), 0, 0)


def test_a_batch_that_is_larger_than_all_groups_together_is_refused():
    with pytest.raises(InputError, match="batch_size is 1000 and there are 701 cells"):
        plan_epoch(cells(), CONFIG, Share(0, 1, 1000, 8), 0, 0)


def test_a_plan_leaves_nothing_behind():
    plan = plan_epoch(cells(), CONFIG, Share(0, 1, 8, 8), 0, 0)
    plan.positions(0)
    gone = weakref.ref(plan)
    del plan
    gc.collect()
    assert gone() is None
