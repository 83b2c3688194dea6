"""Scores of predicted mean profiles, one value per perturbation; NaN where a score is undefined."""

# P perturbations, G genes

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist


@dataclass(frozen=True)
class Comparison:
    """Predicted against measured profiles, and what deltas refer to."""

    predicted_PG: np.ndarray
    measured_PG: np.ndarray
    model_control_G: np.ndarray  # the controls that models may use
    scoring_control_G: np.ndarray  # the other half, which no model has seen
    train_mean_G: np.ndarray
    scored_PG: np.ndarray  # bool: genes that count
    de_PG: np.ndarray  # bool: genes that count in the *_de metrics
    target_PG: np.ndarray  # bool: the perturbed genes


class Metric(NamedTuple):
    function: Callable[[Comparison], np.ndarray]
    higher_is_better: bool


def pearson(comparison: Comparison) -> np.ndarray:
    """Correlation of the profiles themselves; near 1 even without a change."""
    return _correlation(comparison.predicted_PG, comparison.measured_PG, comparison.scored_PG)


def pearson_delta(comparison: Comparison) -> np.ndarray:
    """Correlation of the changes from control."""
    return _correlation(*_deltas(comparison), comparison.scored_PG)


def pearson_delta_de(comparison: Comparison) -> np.ndarray:
    """Correlation of the changes from control, over differentially expressed genes."""
    return _correlation(*_deltas(comparison), comparison.de_PG)


def pearson_delta_from_mean(comparison: Comparison) -> np.ndarray:
    """Correlation of what sets a perturbation apart from the mean training perturbation.

    What all perturbations share counts for nothing here (Systema, Vinas Torne et al. 2025).
    """
    predicted_PG = _difference(comparison.predicted_PG, comparison.train_mean_G)
    measured_PG = _difference(comparison.measured_PG, comparison.train_mean_G)
    return _correlation(predicted_PG, measured_PG, comparison.scored_PG)


def mse(comparison: Comparison) -> np.ndarray:
    """Mean squared error of the profile."""
    return _mean((comparison.predicted_PG - comparison.measured_PG) ** 2, comparison.scored_PG)


def mse_de(comparison: Comparison) -> np.ndarray:
    """Mean squared error over differentially expressed genes."""
    return _mean((comparison.predicted_PG - comparison.measured_PG) ** 2, comparison.de_PG)


def mae(comparison: Comparison) -> np.ndarray:
    """Mean absolute error of the profile."""
    return _mean(np.abs(comparison.predicted_PG - comparison.measured_PG), comparison.scored_PG)


def discrimination_l1(comparison: Comparison) -> np.ndarray:
    """How near the right change is to the prediction, ranked among all perturbations' changes.

    VCC's perturbation discrimination score, 1 - rank / P with the perturbed genes' columns removed.
    Ties get the middle rank (VCC takes their order), so a prediction without knowledge scores
    0.5 + 1 / 2P on average.
    """
    predicted_PG, measured_PG = _deltas(comparison)
    num_perturbations = len(predicted_PG)
    if num_perturbations < 2:
        return np.full(num_perturbations, np.nan)
    score_P = np.empty(num_perturbations)
    for p in range(num_perturbations):
        weight_G = (~comparison.target_PG[p]).astype(float)
        distance_P = cdist(predicted_PG[p : p + 1], measured_PG, "cityblock", w=weight_G)[0]
        nearer = (distance_P < distance_P[p]).sum()
        equal = (distance_P == distance_P[p]).sum() - 1
        score_P[p] = 1 - (nearer + equal / 2) / num_perturbations
    return score_P


METRICS = {
    "pearson": Metric(pearson, higher_is_better=True),
    "pearson_delta": Metric(pearson_delta, higher_is_better=True),
    "pearson_delta_de": Metric(pearson_delta_de, higher_is_better=True),
    "pearson_delta_from_mean": Metric(pearson_delta_from_mean, higher_is_better=True),
    "mse": Metric(mse, higher_is_better=False),
    "mse_de": Metric(mse_de, higher_is_better=False),
    "mae": Metric(mae, higher_is_better=False),
    "discrimination_l1": Metric(discrimination_l1, higher_is_better=True),
}


def _deltas(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured changes, each from its own half of the controls.

    With one control mean on both sides its sampling error would be in both deltas: on data without
    any effect the mean training perturbation then has a pearson_delta of about 0.5.
    """
    return (
        _difference(comparison.predicted_PG, comparison.model_control_G),
        _difference(comparison.measured_PG, comparison.scoring_control_G),
    )


def _difference(profile_PG: np.ndarray, reference_G: np.ndarray) -> np.ndarray:
    """Subtract; what float32 rounding alone can make is 0, so that nobody correlates with it."""
    difference_PG = profile_PG - reference_G
    return np.where(np.abs(difference_PG) <= 1e-6 * np.abs(reference_G), 0, difference_PG)


def _correlation(x_PG: np.ndarray, y_PG: np.ndarray, genes_PG: np.ndarray) -> np.ndarray:
    x_PG, y_PG = _centred(x_PG, genes_PG), _centred(y_PG, genes_PG)
    with np.errstate(invalid="ignore"):
        return (x_PG * y_PG).sum(axis=1) / np.sqrt((x_PG**2).sum(axis=1) * (y_PG**2).sum(axis=1))


def _centred(values_PG: np.ndarray, genes_PG: np.ndarray) -> np.ndarray:
    """Subtract each row's mean over its genes; a row that is constant up to rounding becomes 0."""
    centred_PG = np.where(genes_PG, values_PG - _mean(values_PG, genes_PG)[:, None], 0)
    largest_P1 = np.abs(np.where(genes_PG, values_PG, 0)).max(axis=1, keepdims=True)
    constant_P1 = np.abs(centred_PG).max(axis=1, keepdims=True) <= 1e-6 * largest_P1
    return np.where(constant_P1, 0, centred_PG)


def _mean(values_PG: np.ndarray, genes_PG: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(genes_PG, values_PG, 0).sum(axis=1) / genes_PG.sum(axis=1)
