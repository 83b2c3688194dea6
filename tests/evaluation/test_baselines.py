"""Baselines learn from the train set alone and predict what their formulas say."""

import numpy as np
import pytest

from vcpipe.config.eval import Baselines, RidgePca
from vcpipe.data.screen import open_screen
from vcpipe.data.splits import read_controls, read_split
from vcpipe.errors import InputError
from vcpipe.evaluation.baselines import BASELINES, open_baseline, write_baseline
from vcpipe.evaluation.baselines.ridge_pca import gene_components
from vcpipe.evaluation.profiles import TrainingProfiles, training_profiles


@pytest.fixture
def training(generator) -> TrainingProfiles:
    genes = np.array([f"G{i}" for i in range(12)])
    control_G = generator.random(12) + 1
    mean_PG = control_G + generator.normal(scale=0.3, size=(5, 12))
    return TrainingProfiles(genes, [f"G{i}+ctrl" for i in range(5)], mean_PG, control_G)


def fitted(name: str, training: TrainingProfiles) -> dict[str, np.ndarray]:
    return BASELINES[name].fit(training, getattr(Baselines(), name))


def test_baselines_are_those_of_the_settings():
    assert list(BASELINES) == list(Baselines.model_fields)


@pytest.mark.parametrize("name", BASELINES)
def test_predicted_cells_are_as_many_as_the_controls_and_never_negative(name, training, generator):
    cells_CG = generator.random((7, 12)).astype(np.float32)
    predicted_CG = BASELINES[name].predict_cells(fitted(name, training), "G7+ctrl", cells_CG)
    assert predicted_CG.shape == cells_CG.shape
    assert predicted_CG.min() >= 0


def test_no_change_predicts_the_control_cells_themselves(training, generator):
    cells_CG = generator.random((7, 12))
    parameters = fitted("no_change", training)
    predicted_CG = BASELINES["no_change"].predict_cells(parameters, "G7+ctrl", cells_CG)
    np.testing.assert_array_equal(predicted_CG, cells_CG)


def test_train_mean_predicts_one_profile_for_all(training):
    parameters = fitted("train_mean", training)
    cells_CG = np.zeros((2, 12))
    for condition in ("G1+ctrl", "G9+ctrl"):
        predicted_CG = BASELINES["train_mean"].predict_cells(parameters, condition, cells_CG)
        np.testing.assert_allclose(predicted_CG[1], training.mean_PG.mean(axis=0))


def test_ridge_follows_the_published_formula(training):
    parameters = BASELINES["ridge_pca"].fit(training, RidgePca(penalty=0.1, num_components=3))
    effect_GP = (training.mean_PG - training.control_G).T
    b_G1 = effect_GP.mean(axis=1, keepdims=True)
    profiles_PG = np.vstack([training.control_G, training.mean_PG])
    a = gene_components(profiles_PG, 3)
    p = a[:5].T
    ridge = 0.1 * np.eye(3)
    k = np.linalg.inv(a.T @ a + ridge) @ a.T @ (effect_GP - b_G1) @ p.T
    k = k @ np.linalg.inv(p @ p.T + ridge)
    expected_G = training.control_G + b_G1[:, 0] + a @ k @ a[8]
    predicted_CG = BASELINES["ridge_pca"].predict_cells(parameters, "G8+ctrl", np.zeros((1, 12)))
    np.testing.assert_allclose(predicted_CG[0], expected_G)


def test_ridge_without_penalty_to_speak_of_reproduces_its_training(training):
    """Up to a constant: components are centred over genes and cannot shift all of them."""
    config = RidgePca(penalty=1e-9, num_components=6)
    parameters = BASELINES["ridge_pca"].fit(training, config)
    predicted_CG = BASELINES["ridge_pca"].predict_cells(parameters, "G2+ctrl", np.zeros((1, 12)))
    difference_G = predicted_CG[0] - training.mean_PG[2]
    np.testing.assert_allclose(difference_G, difference_G[0], atol=1e-4)


def test_ridge_predicts_the_training_mean_for_an_unmeasured_target_and_says_so(training):
    parameters = fitted("ridge_pca", training)
    predicted_CG = BASELINES["ridge_pca"].predict_cells(parameters, "XIST+ctrl", np.zeros((1, 12)))
    np.testing.assert_allclose(predicted_CG[0], training.mean_PG.mean(axis=0))
    notes = BASELINES["ridge_pca"].notes(parameters, ["XIST+ctrl", "G3+ctrl"])
    assert notes == [
        "ridge_pca predicts the training mean for XIST+ctrl: "
        "a perturbed gene is not among the measured genes."
    ]


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_never_see_test_perturbations_or_scoring_controls(name, simulate):
    def spoil(counts_CG, condition):
        """Ruin test perturbations (every third target) and the scoring half of the controls."""
        number = np.array([int(one[4:6]) if one != "ctrl" else -1 for one in condition])
        scoring = (condition == "ctrl") & (np.arange(len(condition)) % 2 == 0)
        counts_CG[((number >= 0) & (number % 3 == 0)) | scoring] = 1
        return counts_CG

    parameters = []
    for files in (simulate(effect=0.3), simulate(effect=0.3, name="spoilt", change=spoil)):
        screen = open_screen(files.cells)
        split, controls = read_split(files.split), read_controls(files.controls)
        parameters.append(fitted(name, training_profiles(screen, split, controls)))
    for key, array in parameters[0].items():
        np.testing.assert_array_equal(array, parameters[1][key])


def test_a_baseline_file_gives_back_what_was_written(training, tmp_path):
    parameters = fitted("ridge_pca", training)
    write_baseline(tmp_path / "ridge.npz", parameters, {"baseline": "ridge_pca"})
    found, about = open_baseline(tmp_path / "ridge.npz")
    assert about == {"baseline": "ridge_pca"}
    assert found.keys() == parameters.keys()
    np.testing.assert_array_equal(found["mixing"], parameters["mixing"])


def test_a_file_that_is_no_baseline_is_refused(tmp_path):
    (tmp_path / "other.npz").write_text("hello")
    with pytest.raises(InputError, match="is not a baseline"):
        open_baseline(tmp_path / "other.npz")
