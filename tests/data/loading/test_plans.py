import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.loading.cells_in_a_row import CellsInARow, seen_in, steps_of
from vcpipe.config.loading import Loading
from vcpipe.data.loading.planning import plan_epoch
from vcpipe.data.loading.plans import Segment, Share
from vcpipe.errors import InputError

ONCE = ["streaming", "streaming_buffer", "block_shuffling", "random_sampling", "within_group"]


@st.composite
def epochs(draw):
    """Cells, a strategy that sees each once, and processes that come and go."""
    num_cells = draw(st.integers(20, 300))
    unit = draw(st.integers(1, 12))
    cuts = draw(st.lists(st.integers(1, num_cells - 1), max_size=3, unique=True))
    bounds = np.array([0, *sorted(cuts), num_cells])
    reader = CellsInARow(num_cells, unit, groups=(bounds[:-1], bounds[1:]))
    config = Loading(strategy=draw(st.sampled_from(ONCE)), fetch_factor=draw(st.integers(1, 6)))
    largest = np.diff(bounds).max() if config.strategy == "within_group" else -(-num_cells // unit)
    most = max(1, min(4, int(largest)))
    worlds = draw(st.lists(st.integers(1, most), min_size=1, max_size=3))
    return reader, config, worlds, draw(st.integers(1, 9)), draw(st.integers(0, 3)), draw


@given(epochs())
@settings(max_examples=150, deadline=None)
def test_whoever_goes_on_where_every_cell_is_seen_once(given_epoch):
    """But for less than a cell for each process, which a change of their number may leave."""
    reader, config, worlds, batch_size, epoch, draw = given_epoch
    done, seen = [], []
    for world in worlds:
        steps = steps_of(reader, config, world, batch_size, epoch, done)
        stop = draw(st.integers(0, len(steps)))
        seen += seen_in(steps[:stop])
        done.append(Segment(world, batch_size, config.fetch_factor, stop))
        sizes = {len(part) for step in steps for part in step}
        assert min(sizes, default=1) >= 1
        assert max(sizes, default=1) <= batch_size + (batch_size == 1)
        for step in steps:
            assert max(map(len, step)) - min(map(len, step)) <= 1
    seen += seen_in(steps_of(reader, config, 1, batch_size, epoch, done))
    assert sorted(seen) == list(range(len(reader)))


@pytest.mark.parametrize("strategy", ONCE)
def test_the_same_processes_go_on_as_if_they_had_not_stopped(strategy):
    bounds = np.array([0, 30, 31, 100])
    reader = CellsInARow(100, 8, groups=(bounds[:-1], bounds[1:]))
    config = Loading(strategy=strategy, fetch_factor=2)
    whole = [seen_in([step]) for step in steps_of(reader, config, 2)]
    again = [seen_in([step]) for step in steps_of(reader, config, 2)]
    assert whole == again
    other = [seen_in([step]) for step in steps_of(reader, config, 2, epoch=1)]
    assert (whole == other) == (strategy == "streaming")


@pytest.mark.parametrize("world", [2, 3, 4])
def test_single_cells_come_in_the_same_batches_for_any_number_of_processes(world):
    reader, config = CellsInARow(101), Loading(strategy="random_sampling", fetch_factor=2)
    alone = steps_of(reader, config, 1, batch_size=12)
    shared = steps_of(reader, config, world, batch_size=12 // world)
    assert [sorted(seen_in([step])) for step in alone] == [sorted(seen_in([its])) for its in shared]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_single_cells_keep_their_batches_when_the_number_of_processes_changes(world):
    reader, config = CellsInARow(120), Loading(strategy="random_sampling", fetch_factor=2)
    alone = steps_of(reader, config, 1, batch_size=12)
    done = [Segment(4, 3, 2, 3), Segment(2, 6, 2, 2)]
    rest = steps_of(reader, config, world, batch_size=12 // world, done=done)
    assert [sorted(seen_in([its])) for its in rest] == [sorted(seen_in([s])) for s in alone[5:]]


def test_a_process_reads_whole_blocks_of_its_own():
    """Only at the end of the epoch may two processes read from one block."""
    reader, config = CellsInARow(1003, 10), Loading(fetch_factor=5)
    blocks = []
    for rank in range(3):
        plan = plan_epoch(reader, config, Share(rank, 3, 4, 5), 0, 0)
        its = np.concatenate([plan.positions(n) for n in range(len(plan.buffer_starts) - 2)])
        blocks.append(set((its // 10).tolist()))
        assert len(its) == 10 * len(blocks[-1])
    assert not (blocks[0] & blocks[1]) | (blocks[0] & blocks[2]) | (blocks[1] & blocks[2])


def test_a_hundred_million_cells_take_no_memory_and_no_time():
    import time
    import tracemalloc

    reader = CellsInARow(100_000_000, 256)
    tracemalloc.start()
    began = time.perf_counter()
    plan = plan_epoch(reader, Loading(), Share(3, 8, 64, 256), 0, 0)
    found = plan.positions(400)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - began < 5
    assert kept < 10e6
    assert most < 20e6
    assert len(np.unique(found)) == 64 * 256


def test_a_batch_that_is_larger_than_the_split_is_refused():
    with pytest.raises(InputError, match=r"batch_size is 64 and there are 63 cells .* Lower"):
        plan_epoch(CellsInARow(63), Loading(), Share(batch_size=64), 0, 0)


def test_more_processes_than_blocks_are_refused():
    with pytest.raises(InputError, match="3 processes cannot share 2 blocks of 256 cells"):
        plan_epoch(CellsInARow(400, 256), Loading(), Share(0, 3, 4, 4), 0, 0)


def test_fewer_processes_read_what_many_have_begun_in_buffers_as_large_as_any():
    reader, config = CellsInARow(40_000, 16), Loading(fetch_factor=8)
    done = [Segment(8, 4, 8, 5)]
    plan = plan_epoch(reader, config, Share(0, 1, 4, 8), 0, 0, done)
    assert np.diff(plan.buffer_starts).max() <= 4 * 8 + 16
