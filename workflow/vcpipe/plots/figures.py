"""What all figures share: colours, type sizes, and files that are the same for the same data."""

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

# Okabe and Ito's palette, safe for all kinds of colour blindness.
BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
GREY = "#8C8C8C"
LIGHT_GREY = "#D0D0D0"
KIND_COLOURS = {"model": BLUE, "baseline": GREY}
KIND_MARKERS = {"model": "o", "baseline": "s"}

LABELS = {
    "pearson": "Pearson r, profile",
    "pearson_delta": "Pearson r, Δ from control",
    "pearson_delta_de": "Pearson r, Δ of DE genes",
    "pearson_delta_from_mean": "Pearson r, Δ from mean effect",
    "mse": "Mean squared error",
    "mse_de": "Mean squared error, DE genes",
    "mae": "Mean absolute error",
    "discrimination_l1": "Discrimination (L1 rank)",
}

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.titlesize": 11,
    "legend.frameon": False,
    "savefig.dpi": 150,
    # Without a salt, ids inside an SVG differ from run to run.
    "svg.hashsalt": "vcpipe",
}


def drawing():
    """Use our style inside a `with`, for figures and for saving them."""
    return matplotlib.rc_context(STYLE)


def panels(num_panels: int, width: float, height: float, num_columns: int = 4):
    """A figure and its axes in even rows of at most `num_columns`, of this size in inches."""
    rows = -(-num_panels // num_columns)
    columns = -(-num_panels // rows)
    # A single panel must leave room for the title above it.
    size = (max(width * columns + 0.4, 6.5), height * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[num_panels:]:
        unused.set_visible(False)
    return figure, list(axes[:num_panels])


def label_models(ax, models: pd.DataFrame) -> None:
    """A row for each model, from the top; names (models in bold) stand left of the first panel."""
    named = ax.get_subplotspec().is_first_col()
    ax.set_yticks(range(len(models)), models["model"] if named else [""] * len(models))
    for label, kind in zip(ax.get_yticklabels(), models["kind"], strict=True):
        label.set_fontweight("bold" if kind == "model" else "normal")
    ax.set_ylim(len(models) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=4)
    ax.grid(axis="x", color=LIGHT_GREY, linewidth=0.5)


def write_undefined(ax, row: int, colour: str) -> None:
    """Say that a model has no value, where its value would stand."""
    ax.text(
        0.5,
        row,
        "undefined",
        transform=ax.get_yaxis_transform(),
        ha="center",
        va="center",
        fontsize=8,
        style="italic",
        color=colour,
    )


def arrow(higher_is_better: bool) -> str:
    return "↑" if higher_is_better else "↓"


def save_svg(figure: Figure, path: Path) -> None:
    """Write the same bytes for the same figure: no date, fixed ids."""
    with drawing():
        figure.savefig(path, format="svg", metadata={"Date": None})
