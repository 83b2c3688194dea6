"""Predict that nothing happens: a perturbed cell is a control cell."""

# C cells, G genes

import numpy as np

from vcpipe.config.eval import NoChange
from vcpipe.evaluation.profiles import TrainingProfiles


def fit(training: TrainingProfiles, config: NoChange) -> dict[str, np.ndarray]:
    return {"genes": training.genes}


def predict_cells(
    parameters: dict[str, np.ndarray], condition: str, control_cells_CG: np.ndarray
) -> np.ndarray:
    return control_cells_CG


def notes(parameters: dict[str, np.ndarray], conditions: list[str]) -> list[str]:
    return []
