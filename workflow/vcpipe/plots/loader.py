"""Ways to load cells, compared: what a classifier learns from them, and what they take."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from vcpipe.config.loader import STRATEGIES, TASKS
from vcpipe.errors import InputError, listed
from vcpipe.evaluation.loader_summary import BASELINES, SeedResult, mean_interval
from vcpipe.plots.figures import BLUE, GREY, LIGHT_GREY, ORANGE, VERMILION, drawing

COLOURS = {
    "streaming": VERMILION,
    "streaming_buffer": ORANGE,
    "block_shuffling": "#56B4E9",
    "random_sampling": BLUE,
    "block_weighted": "#CC79A7",
    "true_weighted": "#8F4A7A",
    "full_shuffle": "#009E73",
}
NAMES = {
    "streaming": "streaming",
    "streaming_buffer": "streaming, buffer",
    "block_shuffling": "block shuffling",
    "random_sampling": "random sampling",
    "block_weighted": "block weighted",
    "true_weighted": "true weighted",
    "full_shuffle": "full shuffle (store)",
}
TITLES = {
    "cell_line": "Cell line",
    "drug": "Drug",
    "moa-broad": "Mechanism, broad",
    "moa-fine": "Mechanism, fine",
}
LINES = {"chance": ":", "majority": "--"}


def plot_comparison(
    df: pd.DataFrame, title: str = "Strategies compared"
) -> tuple[Figure, np.ndarray]:
    """Macro-F1 of each task: a point for each seed, a bar at the mean, lines where guessing is.

    `df` is results/loader/summary.csv.
    """
    strategies = _strategies(df)
    with drawing():
        figure = Figure(figsize=(8.5, 1.6 + 0.56 * len(strategies)), layout="constrained")
        axes = figure.subplots(2, 2, sharey=True)
        for ax, task in zip(axes.ravel(), TASKS, strict=True):
            rows = df[df["task"] == task]
            for place, strategy in enumerate(strategies):
                _draw_seeds(ax, place, rows.loc[rows["strategy"] == strategy, "macro_f1"], strategy)
            for kind, style in LINES.items():
                for value in rows.loc[rows["strategy"] == kind, "macro_f1"]:
                    ax.axvline(value, color=GREY, linestyle=style, linewidth=1, zorder=0)
            _name_rows(ax, strategies)
            ax.set_xlim(left=0)
            ax.set_title(TITLES[task])
            ax.set_xlabel("Macro-F1 ↑")
        figure.suptitle(title)
        figure.legend(handles=_guessing_legend(), loc="outside lower center", ncols=4, fontsize=8)
    return figure, axes


def plot_training_curves(
    results: Sequence[SeedResult], task: str = "cell_line"
) -> tuple[Figure, Axes]:
    """Loss of one task by update: thin lines for seeds, a thick one for their mean, points for val.

    `results` are those of vcpipe.evaluation.loader_summary.read_results.
    """
    if task not in TASKS:
        raise InputError(f"task is {task!r}; choose one of {', '.join(TASKS)}.")
    curves: dict[str, list[pd.DataFrame]] = {}
    for each in results:
        its = each.curves[each.curves["task"] == task]
        curves.setdefault(each.about["strategy"], []).append(its)
    with drawing():
        figure = Figure(figsize=(7.5, 4), layout="constrained")
        ax = figure.subplots()
        for strategy in [name for name in STRATEGIES if name in curves]:
            colour = COLOURS[strategy]
            train = [its[its["set"] == "train"] for its in curves[strategy]]
            for its in train:
                ax.plot(its["step"], its["loss"], color=colour, linewidth=0.5, alpha=0.4)
            mean = pd.concat(train).groupby("step")["loss"].mean()
            ax.plot(mean.index, mean, color=colour, linewidth=1.6, label=NAMES[strategy])
            val = pd.concat([its[its["set"] == "val"] for its in curves[strategy]])
            ax.plot(
                val["step"],
                val["loss"],
                color=colour,
                marker="o",
                markersize=4,
                markerfacecolor="none",
                linestyle="none",
            )
        ax.set(xlabel="Update", ylabel="Cross-entropy per cell", title=f"{TITLES[task]}: loss")
        ax.grid(axis="y", color=LIGHT_GREY, linewidth=0.5)
        handles = ax.get_legend_handles_labels()[0]
        ring = {"marker": "o", "markerfacecolor": "none", "linestyle": "none"}
        handles.append(Line2D([], [], color="black", label="validation plate", **ring))
        figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    return figure, ax


def plot_time_comparison(df: pd.DataFrame) -> tuple[Figure, Axes]:
    """Seconds of training, of which the model waited for cells; a point for each seed."""
    strategies = _strategies(df)
    runs = df[df["strategy"].isin(strategies)].drop_duplicates(["strategy", "seed"])
    with drawing():
        figure = Figure(figsize=(7.5, 1.4 + 0.36 * len(strategies)), layout="constrained")
        ax = figure.subplots()
        for place, strategy in enumerate(strategies):
            its = runs[runs["strategy"] == strategy]
            colour, seconds = COLOURS[strategy], its["seconds"].mean()
            waited = (its["seconds"] * its["wait_share"]).mean()
            ax.barh(place, seconds, height=0.6, color=colour, alpha=0.35)
            ax.barh(place, waited, height=0.6, color=colour)
            ax.plot(its["seconds"], [place] * len(its), "o", color="black", markersize=3)
            speed = f" {its['cells_per_second'].mean():,.0f} cells/s"
            ax.text(its["seconds"].max(), place, speed, va="center", fontsize=8)
        _name_rows(ax, strategies)
        ax.set_xlim(0, runs["seconds"].max() * 1.3)
        states = listed(sorted(set(runs["cache"].astype(str))))
        ax.set(xlabel="Seconds of training ↓", title=f"Time of an experiment, cache {states}")
        handles = [
            Patch(color=GREY, label="waited for cells"),
            Patch(color=GREY, alpha=0.35, label="learned"),
            Line2D([], [], color="black", marker="o", markersize=3, linestyle="none", label="seed"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
    return figure, ax


def plot_quality(df: pd.DataFrame, task: str = "drug") -> tuple[Figure, np.ndarray]:
    """Macro-F1 of one task against speed, and against how mixed the plates of a batch are."""
    strategies = _strategies(df)
    rows = df[df["task"] == task]
    with drawing():
        figure = Figure(figsize=(8.5, 4), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        columns = {
            "cells_per_second": "Cells per second →",
            f"entropy_{task}": f"Entropy of {task} in a batch, bits →",
        }
        for ax, (column, label) in zip(axes, columns.items(), strict=True):
            for strategy in strategies:
                its = rows[rows["strategy"] == strategy]
                ax.plot(
                    its[column],
                    its["macro_f1"],
                    "o",
                    color=COLOURS[strategy],
                    markersize=5,
                    label=NAMES[strategy],
                )
            for kind, style in LINES.items():
                for value in rows.loc[rows["strategy"] == kind, "macro_f1"]:
                    ax.axhline(value, color=GREY, linestyle=style, linewidth=1, zorder=0)
            ax.set_xlabel(label)
            ax.grid(color=LIGHT_GREY, linewidth=0.5)
        axes[0].set_xscale("log")
        axes[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes[0].xaxis.set_minor_formatter(NullFormatter())
        axes[0].set_ylabel(f"Macro-F1, {TITLES[task].lower()} ↑")
        axes[0].set_ylim(bottom=0)
        figure.suptitle("What mixing is worth, and what it costs")
        handles = [*axes[0].get_legend_handles_labels()[0], *_guessing_legend()[2:]]
        figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    return figure, axes


def _strategies(df: pd.DataFrame) -> list[str]:
    found = set(df["strategy"])
    unknown = sorted(found - {*STRATEGIES, *BASELINES})
    if unknown or not found & {*STRATEGIES}:
        raise InputError(
            f"The table has the strategies {listed(sorted(found)) or 'none'}; expected some of "
            f"{', '.join(STRATEGIES)}, as results/loader/summary.csv has them."
        )
    return [name for name in STRATEGIES if name in found]


def _draw_seeds(ax: Axes, place: int, values: pd.Series, strategy: str) -> None:
    colour, (low, high) = COLOURS[strategy], mean_interval(values.to_numpy(dtype=float))
    if not np.isnan(low):
        ax.plot([max(low, 0), high], [place] * 2, color=colour, linewidth=1.2)
    ax.plot(values.mean(), place, "|", color=colour, markersize=14, markeredgewidth=2.5)
    ax.plot(values, [place] * len(values), "o", color=colour, markersize=4.5, alpha=0.7)


def _name_rows(ax: Axes, strategies: list[str]) -> None:
    ax.set_yticks(range(len(strategies)), [NAMES[name] for name in strategies])
    ax.set_ylim(len(strategies) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=LIGHT_GREY, linewidth=0.5)


def _guessing_legend() -> list[Line2D]:
    seed = {"color": "black", "marker": "o", "markersize": 4.5, "linestyle": "none"}
    mean = {"color": "black", "marker": "|", "markersize": 10, "markeredgewidth": 2.5}
    return [
        Line2D([], [], label="seed", **seed),
        Line2D([], [], label="mean, 95 % interval", **mean),
        Line2D([], [], color=GREY, linestyle=LINES["chance"], label="chance"),
        Line2D([], [], color=GREY, linestyle=LINES["majority"], label="majority class"),
    ]
