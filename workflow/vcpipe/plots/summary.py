"""The summary as a chart: means and intervals, models against baselines."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vcpipe.evaluation.metrics import METRICS
from vcpipe.plots.figures import (
    GREY,
    KIND_COLOURS,
    KIND_MARKERS,
    LABELS,
    arrow,
    drawing,
    label_models,
    panels,
    write_undefined,
)


def summary_chart(summary: pd.DataFrame, place: str) -> Figure:
    """A panel for each metric of one dataset and split; the dashed line is the best baseline."""
    metrics = [name for name in METRICS if name in set(summary["metric"])]
    models = summary.drop_duplicates("model").sort_values(
        ["kind", "model"], ascending=[False, True]
    )
    with drawing():
        figure, axes = panels(len(metrics), width=2.5, height=0.9 + 0.3 * len(models))
        for ax, metric in zip(axes, metrics, strict=True):
            rows = summary[summary["metric"] == metric].set_index("model").loc[models["model"]]
            _draw_metric(ax, rows)
            label_models(ax, models)
            ax.set_title(LABELS[metric], fontsize=9)
            ax.set_xlabel(f"{metric} {arrow(METRICS[metric].higher_is_better)}")
        figure.suptitle(f"Mean over perturbations, with bootstrap intervals\n{place}")
        figure.legend(handles=_legend(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _draw_metric(ax, rows: pd.DataFrame) -> None:
    for position, row in enumerate(rows.itertuples()):
        colour = KIND_COLOURS[row.kind]
        if np.isnan(row.value):
            write_undefined(ax, position, colour)
            continue
        ax.plot([row.ci_low, row.ci_high], [position] * 2, color=colour, linewidth=1.6)
        ax.plot(row.value, position, marker=KIND_MARKERS[row.kind], color=colour, markersize=6)
    baselines = rows.loc[rows["kind"] == "baseline", "value"].dropna()
    if len(baselines):
        best = baselines.max() if rows["higher_is_better"].iloc[0] else baselines.min()
        ax.axvline(best, color=GREY, linewidth=0.9, linestyle="--", zorder=0)


def _legend() -> list[Line2D]:
    entries = [
        Line2D([], [], color=KIND_COLOURS[kind], marker=KIND_MARKERS[kind], label=kind)
        for kind in KIND_COLOURS
    ]
    return [*entries, Line2D([], [], color=GREY, linestyle="--", label="best baseline")]
