import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.memory_source import MemorySource
from vcpipe.config.fitting import CellSplit
from vcpipe.data.cell_sets import (
    LEFT_OUT,
    TEST,
    TRAIN,
    VAL,
    draw_cell_sets,
)
from vcpipe.errors import InputError


def source(dataset, num_cells, **labels):
    columns = {
        key: pd.Categorical([values[i % len(values)] for i in range(num_cells)])
        for key, values in labels.items()
    }
    cells = [f"cell{i}" for i in range(num_cells)]
    frame = pd.DataFrame(columns, index=range(num_cells))
    return MemorySource(dataset, cells, {"rna": sp.csr_matrix((num_cells, 3))}, frame)


@pytest.fixture
def sources():
    return [
        source("a", 300, batch=["b1", "b2", "b3"], cell_type=["T", "B", "T", "NK"]),
        source("b", 170, batch=["b3", "b4", "b5", "b6"], cell_type=["T", "B"]),
    ]


SPLITS = [
    CellSplit(val=0.1, test=0.2, seed=3),
    CellSplit(method="stratified", key="cell_type", val=0.1, test=0.2, seed=3),
    CellSplit(method="grouped", key="batch", val=0.2, test=0.3, seed=3),
    CellSplit(method="grouped", key="batch", val_groups=["b4"], test=0.3, seed=3),
]


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.method)
def test_sets_do_not_depend_on_the_order_of_files_and_cells(sources, split, generator):
    def by_name(some):
        sets = draw_cell_sets(some, split)
        assert all(its.dtype == np.uint8 for its in sets)
        return {
            (one.dataset, cell): int(number)
            for one, its in zip(some, sets, strict=True)
            for cell, number in zip(one.cells, its, strict=True)
        }

    expected = by_name(sources)
    assert set(expected.values()) == {TRAIN, VAL, TEST}
    assert by_name(sources[::-1]) == expected
    assert by_name([one.taken(generator.permutation(len(one))) for one in sources]) == expected
    halves = [one.taken(rows) for one in sources for rows in np.array_split(range(len(one)), 2)]
    assert by_name(halves) == expected
    others = [split.model_copy(update={"seed": seed}) for seed in range(4, 9)]
    drawn = [np.concatenate(draw_cell_sets(sources, other)).tolist() for other in others]
    assert any(its != np.concatenate(draw_cell_sets(sources, split)).tolist() for its in drawn)


def test_random_sets_have_their_shares_and_leave_other_cells_where_they_are():
    split = CellSplit(val=0.1, test=0.25)
    (sets,) = draw_cell_sets([source("a", 20_000)], split)
    shares = np.bincount(sets) / len(sets)
    np.testing.assert_allclose(shares, [0.65, 0.1, 0.25], atol=0.01)
    fewer = draw_cell_sets([source("a", 5_000), source("c", 3_000)], split)
    assert np.array_equal(fewer[0], sets[:5_000])
    assert not np.array_equal(fewer[1], sets[:3_000])


def test_a_share_that_no_cell_falls_into_is_an_error():
    with pytest.raises(InputError, match="None of 5 cells was drawn for test"):
        draw_cell_sets([source("a", 5)], CellSplit(test=0.001))


@given(
    numbers=st.dictionaries(st.sampled_from("ABCDEF"), st.integers(10, 60), min_size=1),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=30, deadline=None)
def test_stratified_sets_have_the_exact_share_of_every_label(numbers, seed):
    labels = [name for name, number in numbers.items() for _ in range(number)]
    split = CellSplit(method="stratified", key="cell_type", val=0.1, test=0.2, seed=seed)
    (sets,) = draw_cell_sets([source("a", len(labels), cell_type=labels)], split)
    for name, number in numbers.items():
        found = np.bincount(sets[np.array(labels) == name], minlength=3)
        val, test = int(number * 0.1 + 0.5), int(number * 0.2 + 0.5)
        assert found.tolist() == [number - val - test, val, test]


def test_a_label_with_too_few_cells_is_named():
    labels = ["T"] * 40 + ["rare"] * 3
    split = CellSplit(method="stratified", key="cell_type", val=0.1)
    with pytest.raises(InputError, match=r"Too few cells of cell_type rare \(3\) for val 0.1"):
        draw_cell_sets([source("a", 43, cell_type=labels)], split)


def test_groups_stay_whole_over_all_sources(sources):
    for seed in range(20):
        split = CellSplit(method="grouped", key="batch", val=0.2, test=0.3, seed=seed)
        sets = np.concatenate(draw_cell_sets(sources, split))
        batches = np.concatenate([one.labels["batch"].astype(str) for one in sources])
        of_batch = {batch: set(sets[batches == batch]) for batch in np.unique(batches)}
        assert all(len(its) == 1 for its in of_batch.values())
        numbers = [sum(its == {number} for its in of_batch.values()) for number in range(3)]
        assert numbers == [3, 1, 2]


def test_named_groups_go_where_they_are_named(sources):
    split = CellSplit(method="grouped", key="batch", val_groups=["b3"], test_groups=["b1", "b6"])
    sets = draw_cell_sets(sources, split)
    expected = {"b1": TEST, "b2": TRAIN, "b3": VAL, "b4": TRAIN, "b5": TRAIN, "b6": TEST}
    for one, its in zip(sources, sets, strict=True):
        assert its.tolist() == [expected[batch] for batch in one.labels["batch"]]


def refused(sources, words, **split):
    with pytest.raises(InputError, match=re.escape(words)):
        draw_cell_sets(sources, CellSplit(method="grouped", **split))


def test_groups_that_cannot_be_drawn_are_refused(sources):
    refused(sources, "name b9, which no cell has as batch", key="batch", test_groups=["b9"])
    refused(sources, "cell_type has 3 groups", key="cell_type", val_groups=["T", "B"], test=0.1)
    refused([source("a", 9, batch=["b"])], "batch has 1 groups (b), too few", key="batch", val=0.5)
    refused(sources, "the cells of a (memory) have batch, cell_type", key="donor", val=0.5)


def test_cells_without_the_label_are_counted(sources):
    sources[1].labels["batch"] = sources[1].labels["batch"].cat.remove_categories("b4")
    refused(sources, "43 of 170 cells of b (memory) have no batch", key="batch", val=0.5)


def test_settings_that_contradict_each_other_are_refused():
    for wrong, words in (
        ({"val": 0.6, "test": 0.4}, "leave nothing for train"),
        ({"method": "grouped", "val": 0.5}, "expected a key"),
        ({"val_groups": ["b1"]}, "need method grouped"),
        ({"method": "grouped", "key": "b", "val": 0.1, "val_groups": ["b1"]}, "both set"),
        (
            {"method": "grouped", "key": "b", "test_groups": ["b1"], "val_groups": ["b1"]},
            "b1 are in val_groups and in test_groups",
        ),
    ):
        with pytest.raises(ValidationError, match=words):
            CellSplit(**wrong)


def test_sets_that_are_given_stay_as_they_are(sources):
    ready = np.full(170, LEFT_OUT, dtype=np.uint8)
    sets = draw_cell_sets(sources, SPLITS[0], [None, ready])
    assert sets[1] is ready
    assert np.array_equal(sets[0], draw_cell_sets(sources[:1], SPLITS[0])[0])
