"""Predicted cells of a fitted baseline, in the form of every other model's."""

# C cells, G genes

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vcpipe.config.eval import Prediction
from vcpipe.data.model_cells import (
    draw_controls,
    evaluated_conditions,
    generator_for,
    start_rows,
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
) -> tuple[Iterator[tuple[str, np.ndarray]], dict]:
    """Predicted cells of each evaluated condition, and what is to be known about them."""
    parameters, about = open_baseline(path)
    check_same_split(path, about["split_digest"], split, controls)
    check_same_screen(path, about, screen)
    baseline = BASELINES[about["baseline"]]
    conditions = list(evaluated_conditions(split))
    rows = start_rows(screen, split, controls)

    def cells() -> Iterator[tuple[str, np.ndarray]]:
        for condition in conditions:
            generator = generator_for(condition, config.seed)
            control_CG = draw_controls(screen, rows, config.num_cells, generator)
            yield condition, baseline.predict_cells(parameters, condition, control_CG)

    kept = {
        name: about[name]
        for name in ("kind", "config_digest", "data_digest", "target_sum", "split_digest")
    }
    return cells(), {**kept, "notes": baseline.notes(parameters, conditions)}
