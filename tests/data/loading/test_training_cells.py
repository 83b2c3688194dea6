import numpy as np
import pytest

from tests.data.cell_store.memory_source import source_of, stored, to_store, vocabularies_of
from vcpipe.config.loading import Loading
from vcpipe.data.loading.training_cells import readers

BY_GROUP = Loading(strategy="within_group")


def make(path, generator, sets=None):
    labels = {"line": generator.choice(["a", "b", "c"], 300, p=[0.7, 0.25, 0.05]).tolist()}
    source = source_of("one", {"rna": 1 + generator.poisson(0.3, (300, 20))}, labels)
    vocabularies = vocabularies_of(rna=20)
    made = [to_store(source, vocabularies, sets)]
    return stored(path, made, vocabularies, block_size=16, group_by=["line"])


def names(reader, positions) -> list[str]:
    its = reader.store_positions(positions)
    return reader.store.labels(its, ["cell"])["cell"].to_pylist()


def grouped_cells(reader) -> np.ndarray:
    starts, stops = reader.groups
    return np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5])
def test_cells_of_val_loss_are_never_learned_from_in_either_order(tmp_path, generator, fraction):
    store = make(tmp_path / "store", generator)
    learned, judged = readers(store, Loading(), fraction)
    assert len(judged) == max(1, round(300 * fraction))
    by_group, same_judged = readers(store, BY_GROUP, fraction)
    kept = set(names(judged, np.arange(len(judged))))
    assert set(names(same_judged, np.arange(len(judged)))) == kept
    train = set(names(learned, np.arange(len(learned))))
    assert not train & kept
    assert len(train | kept) == 300
    assert set(names(by_group, grouped_cells(by_group))) == train
    assert len(by_group) == len(train)


def test_the_stores_own_val_cells_are_judged_on(tmp_path, generator):
    sets = generator.choice(3, 300).astype(np.uint8)
    store = make(tmp_path / "store", generator, sets)
    learned, judged = readers(store, Loading(), 0.1)
    assert (len(learned), len(judged)) == ((sets == 0).sum(), (sets == 1).sum())
    by_group, _ = readers(store, BY_GROUP, 0.1)
    everyone = np.arange(len(learned))
    assert set(names(by_group, grouped_cells(by_group))) == set(names(learned, everyone))


def test_without_a_fraction_all_cells_are_learned_from(tmp_path, generator):
    learned, judged = readers(make(tmp_path / "store", generator), Loading(), 0.0)
    assert (len(learned), len(judged)) == (300, 0)


def test_groups_are_those_of_the_store(tmp_path, generator):
    by_group, _ = readers(make(tmp_path / "store", generator), BY_GROUP, 0.2)
    for start, stop in zip(*by_group.groups, strict=True):
        its = by_group.store_positions(np.arange(start, stop))
        assert len(set(by_group.store.labels(its, ["line"])["line"].to_pylist())) == 1
