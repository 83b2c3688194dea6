import numpy as np
import pandas as pd
import pytest

from vcpipe.config.splits import Split
from vcpipe.data.condition_means import gene_weights, held_out_profiles, training_effects
from vcpipe.data.pairing import pair_controls
from vcpipe.data.splits import draw_controls, draw_split


@pytest.fixture
def controls(screen):
    return draw_controls(screen, 1)


@pytest.fixture
def split(screen):
    table, _ = draw_split(screen, Split(train_gene_set_size=0.6))
    table.sets.update(dict.fromkeys([("GENE03+ctrl", ""), ("GENE23+ctrl", "")], "val"))
    table.sets.update(dict.fromkeys([("GENE07+ctrl", ""), ("GENE11+ctrl", "")], "train"))
    table.sets["GENE19+ctrl", ""] = "test"
    return table


def means(screen, rows) -> np.ndarray:
    return screen.values(rows).toarray().astype(np.float64).mean(axis=0)


def test_an_effect_is_the_mean_of_cells_minus_that_of_the_controls_beside_them(
    screen, split, controls, generator
):
    control_row = pair_controls(screen, controls, "batch", generator)
    effects = training_effects(screen, split, controls, control_row)
    assert list(effects.index) == ["GENE07+ctrl", "GENE11+ctrl", "ctrl"]
    rows = np.flatnonzero(screen.condition == "GENE07+ctrl")
    expected = means(screen, rows) - means(screen, control_row[rows])
    np.testing.assert_allclose(effects.loc["GENE07+ctrl"], expected, atol=1e-6)
    assert not effects.loc["ctrl"].any()


def test_weights_are_1_on_average_and_follow_the_size_of_the_effect():
    effects = pd.DataFrame([[0.1, -0.4, 0.1], [0.0, 0.0, 0.0]], index=["A+ctrl", "ctrl"])
    weights = gene_weights(effects, 3.0)
    np.testing.assert_allclose(weights.mean(axis=1), 1)
    np.testing.assert_allclose(weights.loc["A+ctrl"], [0.625, 1.75, 0.625])
    np.testing.assert_allclose(weights.loc["ctrl"], 1)


def test_held_out_perturbations_are_compared_with_the_mean_training_perturbation(
    screen, split, controls
):
    found = held_out_profiles(screen, split, controls, ["GENE23+ctrl", "GENE03+ctrl"])
    for place, condition in enumerate(found.conditions):
        expected = means(screen, np.flatnonzero(screen.condition == condition))
        np.testing.assert_allclose(found.mean_PG[place], expected, atol=1e-6)
    trained = [
        means(screen, np.flatnonzero(screen.condition == condition))
        for condition in ("GENE07+ctrl", "GENE11+ctrl")
    ]
    np.testing.assert_allclose(found.train_mean_G, np.mean(trained, axis=0), atol=1e-6)
    assert {controls[cell] for cell in screen.cells[found.controls]} == {"model"}
    assert set(screen.condition[found.controls]) == {"ctrl"}


def test_the_reference_of_held_out_contexts_stands_beside_their_own_controls(screen, controls):
    settings = {"context_key": "batch", "test_contexts": ["b1"]}
    split, _ = draw_split(screen, Split(method="held_out_context", **settings))
    split.sets.update({place: "val" for place in split.sets if place[1] == "b1"})
    found = held_out_profiles(screen, split, controls, ["GENE07+ctrl", "GENE11+ctrl"])
    model = np.array([controls.get(cell) == "model" for cell in screen.cells])
    own, other = (means(screen, np.flatnonzero(model & (screen.batch == b))) for b in ("b1", "b0"))
    trained = [
        means(screen, np.flatnonzero((screen.condition == condition) & (screen.batch == "b0")))
        for condition in sorted(set(screen.condition) - {"ctrl"})
    ]
    expected = np.mean(trained, axis=0) + own - other
    np.testing.assert_allclose(found.train_mean_G, expected, atol=1e-6)
    assert set(screen.batch[found.controls]) == {"b1"}
