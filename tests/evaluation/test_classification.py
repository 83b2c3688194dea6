"""Accuracy and F1 are scikit-learn's; guessing gives what it must."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpipe.evaluation.classification import chance, class_table, majority, score_tasks, scores

sklearn = pytest.importorskip("sklearn.metrics")


def names(number: int) -> list[str]:
    return [f"class {place}" for place in range(number)]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 2**31))
def test_scores_are_those_of_scikit_learn(num_classes, num_cells, seed):
    generator = np.random.default_rng(seed)
    truth, predicted = generator.integers(num_classes, size=(2, num_cells))
    table = class_table(truth, predicted, names(num_classes))
    every = list(range(num_classes))
    expected = sklearn.precision_recall_fscore_support(
        truth, predicted, labels=every, zero_division=0
    )
    for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert np.allclose(table[column], values)
    found = scores(table)
    present = sorted(set(truth))
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, predicted))
    for kind in ("macro", "weighted"):
        assert found[f"{kind}_f1"] == pytest.approx(
            sklearn.f1_score(truth, predicted, labels=present, average=kind, zero_division=0)
        )
    # With all classes there, it is the usual macro-F1.
    if len(present) == num_classes:
        assert found["macro_f1"] == pytest.approx(
            sklearn.f1_score(truth, predicted, labels=every, average="macro", zero_division=0)
        )


def test_who_finds_all_has_one_although_classes_have_no_cells():
    truth = np.array([0, 0, 2])
    assert scores(class_table(truth, truth, names(5)))["macro_f1"] == 1


def test_chance_is_what_random_guesses_give():
    generator = np.random.default_rng(0)
    truth = generator.choice(4, size=40_000, p=[0.7, 0.2, 0.05, 0.05])
    guesses = generator.integers(4, size=len(truth))
    drawn, expected = scores(class_table(truth, guesses, names(4))), chance(truth, 4, names(4))
    for metric, value in expected.items():
        assert value == pytest.approx(drawn[metric], abs=0.01)


def test_the_majority_class_is_right_as_often_as_it_occurs():
    truth = np.array([0, 0, 0, 1, 2])
    found = majority(truth, 0, names(3))
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["macro_f1"] == pytest.approx(2 * 0.6 / 1.6 / 3)
    assert majority(truth, 1, names(3))["accuracy"] == pytest.approx(0.2)


def test_labels_that_training_lacks_count_as_wrong():
    classes = {"drug": ["a", "b"]}
    train, test = np.array([[0], [0], [1]]), np.array([[0], [1], [2], [2]])
    predicted = np.array([[0], [1], [0], [1]])
    table, tasks = score_tasks(classes, {"drug": ["new"]}, train, test, predicted)
    its = tasks["drug"]
    assert its["scores"]["accuracy"] == 0.5
    assert (its["num_classes"], its["num_test_classes"], its["num_unknown_cells"]) == (2, 3, 2)
    assert its["majority"]["accuracy"] == 0.25
    assert its["chance"]["accuracy"] == 0.25
    assert table.set_index("class")["f1"]["new"] == 0
    assert table["known"].tolist() == [True, True, False]
    assert its["scores"]["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
