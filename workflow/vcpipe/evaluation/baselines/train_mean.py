"""Predict that every perturbation does what the training perturbations do on average."""

# P perturbations, C cells, G genes

import numpy as np

from vcpipe.config.eval import TrainMean
from vcpipe.evaluation.profiles import TrainingProfiles


def fit(training: TrainingProfiles, config: TrainMean) -> dict[str, np.ndarray]:
    """The mean profile; every perturbation counts the same, however many cells it has."""
    return {"genes": training.genes, "mean": training.mean_PG.mean(axis=0)}


def predict_cells(
    parameters: dict[str, np.ndarray], condition: str, control_cells_CG: np.ndarray
) -> np.ndarray:
    """The mean profile for each cell, as cell-eval's own baseline does it."""
    return np.repeat(parameters["mean"][None].clip(min=0), len(control_cells_CG), axis=0)


def notes(parameters: dict[str, np.ndarray], conditions: list[str]) -> list[str]:
    return []
