"""Scores of single perturbations, a strip for each model and a panel for each metric."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vcpipe.evaluation.metrics import METRICS
from vcpipe.evaluation.scoring import Scores
from vcpipe.plots.figures import (
    KIND_COLOURS,
    LABELS,
    arrow,
    drawing,
    label_models,
    panels,
    write_undefined,
)


def per_perturbation_scores(scores: list[Scores], place: str) -> Figure:
    """Each dot is a perturbation, each bar a model's mean; models stand above baselines."""
    scores = sorted(scores, key=lambda each: (each.about["kind"] != "model", each.about["model"]))
    models = pd.DataFrame([each.about for each in scores])[["model", "kind"]]
    present = set(scores[0].per_perturbation["metric"])
    metrics = [name for name in METRICS if name in present]
    with drawing():
        figure, axes = panels(len(metrics), width=2.5, height=0.8 + 0.34 * len(scores))
        for ax, metric in zip(axes, metrics, strict=True):
            for row, each in enumerate(scores):
                _draw_strip(ax, row, each, metric)
            label_models(ax, models)
            ax.set_title(LABELS[metric], fontsize=9)
            ax.set_xlabel(f"{metric} {arrow(METRICS[metric].higher_is_better)}")
        count = scores[0].about["num_perturbations"]
        figure.suptitle(f"Scores of {count} perturbations\n{place}")
    return figure


def _draw_strip(ax, row: int, scores: Scores, metric: str) -> None:
    table = scores.per_perturbation
    value = table.loc[table["metric"] == metric, "value"].dropna()
    colour = KIND_COLOURS[scores.about["kind"]]
    if value.empty:
        write_undefined(ax, row, colour)
        return
    ax.scatter(
        value, row + _spread(value), s=9, color=colour, alpha=0.45, linewidth=0, rasterized=True
    )
    ax.plot([value.mean()] * 2, [row - 0.36, row + 0.36], color="black", linewidth=1.8)


def _spread(value: pd.Series) -> np.ndarray:
    """Offsets within a strip by rank, evenly and always the same (golden-ratio sequence)."""
    rank = value.rank(method="first").to_numpy()
    return ((rank * 0.618034) % 1 - 0.5) * 0.5
