"""Each metric by hand or against scipy, and where it is undefined."""

import dataclasses
import typing

import numpy as np
import pytest
from scipy.stats import pearsonr

from vcpipe.config import eval as settings
from vcpipe.evaluation.metrics import METRICS, Comparison


@pytest.fixture
def comparison() -> Comparison:
    """Two perturbations, three genes; the controls of model and scoring differ."""
    return Comparison(
        predicted_PG=np.array([[1.0, 2.0, 4.0], [2.0, 2.0, 3.0]]),
        measured_PG=np.array([[1.0, 3.0, 5.0], [3.0, 2.0, 2.0]]),
        model_control_G=np.array([1.0, 1.5, 2.0]),
        scoring_control_G=np.array([1.5, 1.0, 2.0]),
        train_mean_G=np.array([1.0, 1.0, 3.0]),
        scored_PG=np.ones((2, 3), dtype=bool),
        de_PG=np.array([[True, True, False], [False, True, True]]),
        target_PG=np.zeros((2, 3), dtype=bool),
    )


def score(name: str, comparison: Comparison) -> np.ndarray:
    return METRICS[name].function(comparison)


def test_metrics_are_those_of_the_settings():
    assert tuple(METRICS) == typing.get_args(settings.Metric)


def test_pearson_equals_scipy(comparison):
    expected = [
        pearsonr(predicted, measured).statistic
        for predicted, measured in zip(comparison.predicted_PG, comparison.measured_PG, strict=True)
    ]
    np.testing.assert_allclose(score("pearson", comparison), expected)


def test_pearson_delta_takes_each_side_from_its_own_controls(comparison):
    expected = [
        pearsonr([0, 0.5, 2], [-0.5, 2, 3]).statistic,
        pearsonr([1, 0.5, 1], [1.5, 1, 0]).statistic,
    ]
    np.testing.assert_allclose(score("pearson_delta", comparison), expected)


def test_pearson_delta_de_takes_the_de_genes_alone(comparison):
    # Two genes each: only the direction is left.
    np.testing.assert_allclose(score("pearson_delta_de", comparison), [1, -1])


def test_pearson_delta_from_mean_refers_to_the_training_mean(comparison):
    expected = [
        pearsonr([0, 1, 1], [0, 2, 2]).statistic,
        pearsonr([1, 1, 0], [2, 1, -1]).statistic,
    ]
    np.testing.assert_allclose(score("pearson_delta_from_mean", comparison), expected)


def test_errors_by_hand(comparison):
    np.testing.assert_allclose(score("mse", comparison), [2 / 3, 2 / 3])
    np.testing.assert_allclose(score("mse_de", comparison), [1 / 2, 1 / 2])
    np.testing.assert_allclose(score("mae", comparison), [2 / 3, 2 / 3])


def test_unscored_genes_count_in_no_profile_metric(comparison):
    without_last = dataclasses.replace(
        comparison, scored_PG=np.array([[True, True, False], [True, True, False]])
    )
    np.testing.assert_allclose(score("mse", without_last), [1 / 2, 1 / 2])
    np.testing.assert_allclose(score("mae", without_last), [1 / 2, 1 / 2])
    np.testing.assert_allclose(score("pearson", without_last)[0], 1)


def test_discrimination_by_hand(comparison):
    # Predicted deltas [0, .5, 2] and [1, .5, 1], measured ones [-.5, 2, 3] and [1.5, 1, 0].
    # L1 of the first: 3 to its own, 4 to the other. Of the second: 2 to its own, 5 to the other.
    np.testing.assert_allclose(score("discrimination_l1", comparison), [1, 1])
    swapped = dataclasses.replace(comparison, predicted_PG=comparison.predicted_PG[::-1])
    np.testing.assert_allclose(score("discrimination_l1", swapped), [1 / 2, 1 / 2])


def test_discrimination_leaves_out_the_target_of_the_prediction(comparison):
    # Without the last gene the first prediction is 2 from its own and 2 from the other: a tie.
    target_PG = np.array([[False, False, True], [False, False, False]])
    tied = dataclasses.replace(comparison, target_PG=target_PG)
    np.testing.assert_allclose(score("discrimination_l1", tied), [3 / 4, 1])


def test_discrimination_equals_a_plain_loop(generator):
    predicted_PG, measured_PG = generator.random((2, 7, 30))
    target_PG = np.eye(7, 30, dtype=bool)
    comparison = _random(predicted_PG, measured_PG, target_PG)
    expected = []
    for k in range(7):
        kept = ~target_PG[k]
        distance = [np.abs(predicted_PG[k] - measured_PG[t])[kept].sum() for t in range(7)]
        expected.append(1 - np.argsort(np.argsort(distance))[k] / 7)
    np.testing.assert_allclose(score("discrimination_l1", comparison), expected)


def _random(predicted_PG, measured_PG, target_PG=None) -> Comparison:
    zero_G = np.zeros(predicted_PG.shape[1])
    every_PG = np.ones(predicted_PG.shape, dtype=bool)
    target_PG = ~every_PG if target_PG is None else target_PG
    return Comparison(
        predicted_PG, measured_PG, zero_G, zero_G, zero_G, ~target_PG, every_PG, target_PG
    )


def test_the_truth_has_the_best_score(generator):
    measured_PG = generator.random((6, 20))
    truth = _random(measured_PG, measured_PG)
    for name, metric in METRICS.items():
        best = 1 if metric.higher_is_better else 0
        np.testing.assert_allclose(score(name, truth), best, err_msg=name)


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_one_prediction_for_all_has_discrimination_of_chance(generator, scale):
    measured_PG = generator.random((10, 20))
    same = _random(np.tile(scale * generator.random(20), (10, 1)), measured_PG)
    assert score("discrimination_l1", same).mean() == pytest.approx(0.5 + 1 / 20)


def test_perturbations_that_nothing_tells_apart_share_the_middle_rank(generator):
    measured_PG = np.tile(generator.random(20), (5, 1))
    tied = _random(generator.random((5, 20)), measured_PG)
    np.testing.assert_allclose(score("discrimination_l1", tied), 0.5 + 1 / 10)


def test_a_flat_prediction_has_no_correlation_and_is_not_counted_as_zero(generator):
    flat = _random(np.full((2, 9), 0.3, dtype=np.float32), generator.random((2, 9)))
    assert np.isnan(score("pearson", flat)).all()
    assert not np.isnan(score("mse", flat)).any()


def test_rounding_noise_around_the_reference_is_no_change(comparison, generator):
    control_G = generator.random(3) + 1
    rounded = dataclasses.replace(
        comparison,
        predicted_PG=np.tile(control_G.astype(np.float32), (2, 1)).astype(float),
        model_control_G=control_G,
    )
    assert np.isnan(score("pearson_delta", rounded)).all()


def test_a_single_perturbation_cannot_be_discriminated(generator):
    one = generator.random((1, 9))
    assert np.isnan(score("discrimination_l1", _random(one, one))).all()


def test_a_perturbation_without_de_genes_has_no_de_scores(comparison):
    none = dataclasses.replace(comparison, de_PG=np.zeros((2, 3), dtype=bool))
    assert np.isnan(score("mse_de", none)).all()
    assert np.isnan(score("pearson_delta_de", none)).all()
