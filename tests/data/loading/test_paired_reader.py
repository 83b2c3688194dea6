import numpy as np
import pytest

from tests.data.cell_store.memory_source import source_of, stored, vocabularies_of
from vcpipe.data.loading.loader import TwoBuffers
from vcpipe.data.loading.paired_reader import PairedReader, both
from vcpipe.data.loading.store_reader import StoreReader


@pytest.fixture
def store(tmp_path, generator):
    counts = {
        "rna": generator.poisson(0.2, (100, 60)),
        "atac": generator.poisson(0.1, (100, 150)),
    }
    return stored(
        tmp_path / "store",
        [source_of("one", counts)],
        vocabularies_of(rna=60, atac=150),
        block_size=16,
    )


def same(rows, other) -> bool:
    names = ("starts", "ids", "counts", "totals", "keys")
    return all(np.array_equal(getattr(rows, name), getattr(other, name)) for name in names)


def assert_are_those_of(store, buffer, places, positions) -> None:
    for modality, its in zip(("rna", "atac"), both(buffer), strict=True):
        assert same(its.rows(places), store.rows(positions, modality))


@pytest.mark.parametrize("num", [80, 4])
def test_a_buffer_holds_genes_and_peaks_of_the_same_cells(store, generator, num):
    reader = PairedReader(StoreReader(store, range(10, 100)))
    assert len(reader) == 90
    positions = generator.choice(90, num)
    buffer, tasks = reader.begin(positions)
    for task in reversed(tasks):
        task()
    assert np.array_equal(buffer.positions, positions)
    places = generator.permutation(num)[:3]
    assert_are_those_of(store, buffer, places, positions[places] + 10)
    assert same(buffer.rows(places), store.rows(positions[places] + 10))


def test_a_batch_may_lie_in_two_buffers(store):
    reader = PairedReader(StoreReader(store))
    first, second = reader.read(np.arange(30)), reader.read(np.arange(30, 60))
    joined = TwoBuffers([first, second], [np.arange(27, 30), np.arange(2)])
    assert_are_those_of(store, joined, np.array([4, 0, 3]), [31, 27, 30])
