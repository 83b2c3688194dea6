"""The simple predictors that every model is held against, and their file."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vcpipe.errors import InputError
from vcpipe.evaluation.baselines import no_change, ridge_pca, train_mean
from vcpipe.files import existing, writing


class Baseline(NamedTuple):
    fit: Callable  # (TrainingProfiles, its settings) -> parameters, a dict of arrays
    predict_cells: Callable  # (parameters, condition, control_cells_CG) -> cells_CG
    notes: Callable  # (parameters, conditions) -> what a reader of the scores must know


BASELINES = {
    "no_change": Baseline(no_change.fit, no_change.predict_cells, no_change.notes),
    "train_mean": Baseline(train_mean.fit, train_mean.predict_cells, train_mean.notes),
    "ridge_pca": Baseline(ridge_pca.fit, ridge_pca.predict_cells, ridge_pca.notes),
}


def write_baseline(path: Path, parameters: dict[str, np.ndarray], about: dict) -> None:
    """Write arrays only, so that no reader needs pickle; `about` is JSON in one of them."""
    arrays = {**parameters, "about": np.array(json.dumps(about, sort_keys=True))}
    with writing(path) as partial, partial.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


def open_baseline(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Return what write_baseline was given: parameters and about."""
    try:
        with np.load(existing(path, "what fit_baseline writes"), allow_pickle=False) as file:
            parameters = {name: file[name] for name in file.files}
        return parameters, json.loads(str(parameters.pop("about")))
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise InputError(
            f"{path} is not a baseline ({error}); expected what fit_baseline writes. "
            "Fit it with python -m scripts.fit_baseline."
        ) from error
