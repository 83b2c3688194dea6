import threading
import time

import numpy as np
import pytest

from tests.data.cell_store.memory_source import source_of, stored, vocabularies_of
from tests.data.loading.cells_in_a_row import CellsInARow
from vcpipe.config.loading import Loading
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Segment, Share
from vcpipe.data.loading.reader import Reader
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.rows import Rows

NAMES = ("starts", "ids", "counts", "totals", "keys")


class Cells:
    """Batches that are the cells themselves."""

    def __init__(self, reader: Reader):
        self.reader, self.threads = reader, set()

    def batch(self, buffer, places, draw):
        self.threads.add(threading.current_thread().name)
        rows = buffer.rows(places)
        drawn = draw.generator().random(1)
        return {"positions": buffer.positions[places], "drawn": drawn} | {
            name: getattr(rows, name) for name in NAMES
        }


class Positions(Cells):
    def batch(self, buffer, places, draw):
        return {"positions": buffer.positions[places]}


@pytest.fixture
def store(tmp_path, generator):
    counts = generator.poisson(0.2, (300, 60))
    counts[:, 0] = 1
    return stored(
        tmp_path / "store",
        [source_of("one", {"rna": counts})],
        vocabularies_of(rna=60),
        block_size=16,
    )


def loader(batches, threads=2, rank=0, world=1, batch_size=7, **config) -> Loader:
    its = Loading(**({"fetch_factor": 4} | config))
    return Loader(batches, its, Share(rank, world, batch_size, its.fetch_factor), 5, threads)


def equal(one: list[dict], other: list[dict]) -> bool:
    return len(one) == len(other) and all(
        all(np.array_equal(a[name], b[name]) for name in a) for a, b in zip(one, other, strict=True)
    )


def test_batches_are_the_same_for_any_number_of_threads(store):
    made = [list(loader(Cells(StoreReader(store)), threads).steps(3)) for threads in (1, 2, 5)]
    assert equal(made[0], made[1])
    assert equal(made[0], made[2])
    assert len({float(batch["drawn"][0]) for batch in made[0]}) == len(made[0])


def test_a_batch_holds_the_cells_it_names_also_across_buffers(store):
    batches = list(loader(Cells(StoreReader(store))).steps(0))
    assert sorted(np.concatenate([its["positions"] for its in batches])) == list(range(300))
    for its in batches:
        rows = store.rows(its["positions"])
        assert all(np.array_equal(its[name], getattr(rows, name)) for name in NAMES)


def test_batches_are_made_by_threads_of_the_loader(store):
    cells = Cells(StoreReader(store))
    list(loader(cells).steps(0))
    assert cells.threads <= {"loader_0", "loader_1"}


@pytest.mark.parametrize("step", [0, 1, 20, 43])
def test_an_epoch_goes_on_at_any_step(store, step):
    whole = list(loader(Cells(StoreReader(store))).steps(1))
    assert len(whole) == 43
    assert equal(whole[step:], list(loader(Cells(StoreReader(store))).steps(1, (), step)))


def test_other_processes_go_on_where_some_have_stopped(store):
    done = (Segment(2, 7, 4, 10),)
    seen = []
    for rank in range(2):
        its = loader(Positions(StoreReader(store)), rank=rank, world=2).steps(0)
        seen += [next(its)["positions"] for _ in range(10)]
        its.close()
    for rank in range(3):
        its = loader(Positions(StoreReader(store)), rank=rank, world=3)
        seen += [batch["positions"] for batch in its.steps(0, done)]
    assert sorted(np.concatenate(seen)) == list(range(300))


def test_the_next_buffer_is_read_while_one_is_learned_from(store):
    reader = StoreReader(store)
    begun = []
    begin = reader.begin
    reader.begin = lambda positions: begun.append(len(positions)) or begin(positions)
    its = loader(Cells(reader), threads=1, fetch_factor=16).steps(0)
    next(its)
    its.close()
    assert len(begun) == 2


def test_an_epoch_that_is_left_leaves_no_thread(store):
    its = loader(Cells(StoreReader(store))).steps(0)
    next(its)
    its.close()
    assert not any(each.name.startswith("loader_") for each in threading.enumerate())


def test_an_error_of_a_thread_is_raised_where_the_batch_is_asked_for(store):
    class Failing(Cells):
        def batch(self, buffer, places, draw):
            if draw.step == 3:
                raise ValueError("no batch of step 3")
            return super().batch(buffer, places, draw)

    its = loader(Failing(StoreReader(store))).steps(0)
    for _ in range(3):
        next(its)
    with pytest.raises(ValueError, match="no batch of step 3"):
        next(its)


def test_waiting_is_counted_apart_from_learning():
    class Slow(Positions):
        def batch(self, buffer, places, draw):
            time.sleep(0.01)
            return super().batch(buffer, places, draw)

    slow = loader(Slow(CellsInARow(140)), threads=1)
    list(slow.steps(0))
    assert slow.waited > 0.15
    assert slow.cells == 140

    fast = loader(Positions(CellsInARow(140)), threads=1)
    for _ in fast.steps(0):
        time.sleep(0.01)
    assert fast.waited < slow.waited


def test_a_back_end_without_parts_is_read_by_a_thread_too(store):
    class Whole:
        block_size = 1

        def __init__(self):
            self.inner, self.readers = StoreReader(store), set()

        def __len__(self):
            return len(self.inner)

        def read(self, positions):
            self.readers.add(threading.current_thread().name)
            return self.inner.read(positions)

    whole = Whole()
    batches = list(loader(Cells(whole), block_size=16).steps(0))
    assert equal(batches, list(loader(Cells(StoreReader(store))).steps(0)))
    assert whole.readers <= {"loader_0", "loader_1"}
    assert isinstance(whole.read(np.arange(2)).rows(np.arange(2)), Rows)
