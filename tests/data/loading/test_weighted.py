import numpy as np
import pytest

from tests.data.loading.cells_in_a_row import CellsInARow, epoch_of
from vcpipe.config.loading import Loading
from vcpipe.data.loading.reader import LabelCodes
from vcpipe.data.loading.weighted import (
    CellWeights,
    WeightedDraws,
    balanced,
    checked_weights,
)
from vcpipe.errors import InputError

CODES = np.repeat([0, 1, 2], [600, 300, 100])


def labels(codes=CODES, words=3) -> LabelCodes:
    return LabelCodes([(str(i),) for i in range(words)], lambda start, stop: codes[start:stop])


def test_the_weight_of_a_combination_is_scdatasets_by_hand():
    """total_cells / (n_combinations * (count + MIN_COUNT_BASELINE)); only present ones count."""
    weights = balanced(labels(words=4), 1000, ["l"], 1000)
    by_hand = [1000 / (3 * 1600), 1000 / (3 * 1300), 1000 / (3 * 1100), 0]
    assert weights.tolist() == pytest.approx(by_hand, rel=1e-12)


def test_without_a_baseline_all_combinations_weigh_alike():
    weights = balanced(labels(), 1000, ["l"], 0)
    assert (weights * [600, 300, 100]).tolist() == pytest.approx([1000 / 3] * 3)


def test_draws_ascend_and_any_of_them_is_asked_for_by_itself():
    drawn = WeightedDraws(CellWeights(labels().codes, np.array([1.0, 2, 0]), 1000), 5000, 0, 1)
    every = drawn.positions(np.arange(5000))
    assert (np.diff(every) >= 0).all()
    some = np.array([4000, 3, 4999, 3, 1234])
    assert np.array_equal(drawn.positions(some), every[some])
    assert not (CODES[every] == 2).any()


def test_another_epoch_draws_others():
    one, other, same = (
        WeightedDraws(CellWeights(labels().codes, np.ones(3), 1000), 1000, 0, epoch).positions(
            np.arange(1000)
        )
        for epoch in (0, 1, 0)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_an_epoch_has_as_many_draws_as_asked():
    config = Loading(strategy="true_weighted", weight_by=["l"], num_samples=17)
    assert len(epoch_of(CellsInARow(1000, l=CODES.astype(str)), config)) == 17


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_weights_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match=rf"1 weights of cells .* the first {wrong} at 1"):
        checked_weights(np.array([1.0, wrong]), "cells")


def test_weights_that_sum_to_zero_are_refused():
    with pytest.raises(InputError, match=r"The 3 weights of combinations .* sum to 0.0; expected"):
        CellWeights(labels().codes, np.zeros(3), 1000)


def test_weights_of_labels_that_no_cell_has_are_refused():
    with pytest.raises(InputError, match=r"weights of cells sum to 0\.0"):
        CellWeights(labels(words=4).codes, np.array([0.0, 0, 0, 1]), 1000)


def test_a_label_that_no_cell_has_is_refused():
    with pytest.raises(InputError, match="weight_by is drug, dose, and no cell has it; name"):
        balanced(labels(np.full(1000, -1)), 1000, ["drug", "dose"], 0)


def test_cells_without_a_label_are_counted_and_refused():
    codes = np.where(np.arange(1000) < 12, -1, CODES)
    with pytest.raises(InputError, match="12 of 1000 cells lack one of these labels; leave"):
        balanced(labels(codes), 1000, ["drug"], 0)


def test_an_unknown_label_is_refused_with_those_there_are():
    config = Loading(strategy="class_balanced", weight_by=["drug"])
    with pytest.raises(InputError, match="weight_by names drug; the labels of these cells are l"):
        epoch_of(CellsInARow(10, l=np.array(list("aaaaabbbbb"))), config)


def test_labels_are_read_once_for_all_epochs():
    reader, asked = CellsInARow(1000, l=CODES.astype(str)), []
    codes = reader.label_codes
    reader.label_codes = lambda columns: asked.append(columns) or codes(columns)
    config = Loading(strategy="block_weighted", weight_by=["l"])
    epochs = [epoch_of(reader, config, epoch=epoch).tolist() for epoch in range(3)]
    assert len(asked) == 1
    assert epochs[0] != epochs[1]
