"""Cells in two dimensions, coloured by what is known of them."""

# C cells

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vcpipe.errors import InputError, listed
from vcpipe.plots.figures import BLUE, GREY, LIGHT_GREY, ORANGE, VERMILION, drawing, save_svg

COLOURS = (BLUE, ORANGE, "#009E73", VERMILION, "#CC79A7", "#56B4E9", "#F0E442", GREY)
MARKERS = ("o", "^", "s")
MOST_VALUES = len(COLOURS) * len(MARKERS)


def labels_to_show(obs: pd.DataFrame, asked: list[str]) -> list[str]:
    """The obs columns that were asked for; without any, those that tell a few kinds apart."""
    missing = [label for label in asked if label not in obs.columns]
    if missing:
        raise InputError(
            f"color_by names {listed(missing)}; the obs columns are {listed(obs.columns, 30)}."
        )
    return asked or [label for label in obs if _tells_apart(obs[label])]


def _tells_apart(values: pd.Series) -> bool:
    text = isinstance(values.dtype, pd.CategoricalDtype) or values.dtype == object
    return text and 2 <= values.nunique() <= MOST_VALUES


def write_embedding_figures(
    folder: Path,
    places_C2: np.ndarray,
    obs: pd.DataFrame,
    labels: list[str],
    title: str,
    axes: str = "UMAP",
) -> None:
    """Write <label>.svg into a folder; cells.svg where there is no label."""
    for label in labels:
        save_svg(embedding_figure(places_C2, obs[label], title, axes), folder / f"{label}.svg")
    if not labels:
        nothing = pd.Series(["all"] * len(obs), name="cells")
        save_svg(embedding_figure(places_C2, nothing, title, axes), folder / "cells.svg")


def embedding_figure(
    places_C2: np.ndarray, values: pd.Series, title: str, axes: str = "UMAP"
) -> Figure:
    """A point for each cell; kinds that are too many share one colour, those without are grey."""
    text = values.astype(object).where(values.notna(), None)
    counts = pd.Series([str(value) for value in text if value is not None]).value_counts()
    shown = sorted(counts.index[:MOST_VALUES])
    names = np.array(["" if value is None else str(value) for value in text], dtype=object)
    size = float(np.clip(4000 / max(len(names), 1), 1, 16))
    with drawing():
        figure = Figure(figsize=(6.5, 4.2), layout="constrained")
        ax = figure.subplots()
        # Points as a picture: a hundred thousand of them as shapes open in no browser.
        look = {"s": size, "linewidths": 0, "rasterized": True}
        others = ~np.isin(names, shown)
        if others.any():
            what = "others" if len(counts) > len(shown) else "unknown"
            ax.scatter(*places_C2[others].T, color=LIGHT_GREY, label=what, **look)
        for number, name in enumerate(shown):
            here = places_C2[names == name].T
            colour = COLOURS[number % len(COLOURS)]
            marker = MARKERS[number // len(COLOURS)]
            ax.scatter(*here, color=colour, marker=marker, label=name, **look)
        ax.set(xlabel=f"{axes} 1", ylabel=f"{axes} 2", xticks=[], yticks=[])
        figure.suptitle(f"{title}: {values.name}")
        figure.legend(loc="outside right center", fontsize=8, markerscale=(20 / size) ** 0.5)
    return figure
