"""Predicted cells of a fitted baseline, in the form of every other model's."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from vcpipe.config.eval import Prediction
from vcpipe.data.model_cells import start_rows
from vcpipe.data.predicted_cells import (
    OfCells,
    PredictedCells,
    asked_of_list,
    asked_of_split,
    predicted_cells,
)
from vcpipe.data.screen import Screen, check_same_screen
from vcpipe.data.splits import SplitTable, check_same_split
from vcpipe.evaluation.baselines import BASELINES, open_baseline


def predictions(
    screen: Screen,
    split: SplitTable,
    controls: dict[str, str],
    path: Path,
    config: Prediction,
    targets: Path | None = None,
) -> tuple[Iterator[PredictedCells], dict]:
    """Cells of each evaluated condition, or of a list of targets, and what to know about them."""
    parameters, about = open_baseline(path)
    check_same_split(path, about["split_digest"], split, controls)
    check_same_screen(path, about, screen)
    baseline = BASELINES[about["baseline"]]
    asked = asked_of_split(split, config)
    if targets is not None:
        genes = set(screen.genes.tolist())
        asked = asked_of_list(targets, split, genes, str(screen.path), config)
    rows = start_rows(screen, split, controls)

    def predictor(condition: str, _: np.random.Generator) -> OfCells:
        return partial(baseline.predict_cells, parameters, condition)

    kept = {
        name: about[name]
        for name in ("kind", "config_digest", "data_digest", "target_sum", "split_digest")
    }
    predicted = [one for one in asked.conditions if one not in asked.unchanged]
    notes = [*asked.notes, *baseline.notes(parameters, predicted)]
    return predicted_cells(screen, rows, asked, predictor, config), {**kept, "notes": notes}
