"""Loss curves of training runs."""

import pandas as pd
from matplotlib.figure import Figure

from vcpipe.plots.figures import BLUE, LIGHT_GREY, VERMILION, drawing, panels

NUM_RAW_POINTS = 200  # up to here every step is drawn plainly, beyond it smoothed


def loss_curves(logs: dict[str, pd.DataFrame]) -> Figure:
    """One panel for each run: training loss by step, validation loss where it was measured."""
    with drawing():
        if not logs:
            figure = Figure(figsize=(3.4, 1.0))
            figure.text(0.5, 0.5, "no training runs", ha="center", va="center")
            return figure
        figure, axes = panels(len(logs), width=3.4, height=2.5, num_columns=3)
        for ax, (name, log) in zip(axes, sorted(logs.items()), strict=True):
            _draw_run(ax, log)
            ax.set_title(name)
        figure.suptitle("Loss during training")
        figure.supxlabel("Optimizer step", fontsize=9)
        figure.supylabel("Loss", fontsize=9)
    return figure


def _draw_run(ax, log: pd.DataFrame) -> None:
    # Rows with a rate are batches; the others sum up an epoch.
    batches = log["lr"].notna()
    train = log[batches if batches.any() else ~batches].dropna(subset=["train_loss"])
    val = log.dropna(subset=["val_loss"])
    if len(train) > NUM_RAW_POINTS:
        ax.plot(train["step"], train["train_loss"], color=LIGHT_GREY, linewidth=0.6)
        smooth = train["train_loss"].ewm(halflife=len(train) / 100).mean()
        ax.plot(train["step"], smooth, color=BLUE, linewidth=1.4, label="train (smoothed)")
    else:
        ax.plot(train["step"], train["train_loss"], color=BLUE, linewidth=1.4, label="train")
    if len(val):
        ax.plot(
            val["step"],
            val["val_loss"],
            color=VERMILION,
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            label="validation",
        )
        best = val.loc[val["val_loss"].idxmin()]
        ax.plot(
            best["step"],
            best["val_loss"],
            color=VERMILION,
            marker="o",
            markersize=8,
            markerfacecolor="none",
            linestyle="none",
            label=f"lowest: {best['val_loss']:.3g}",
        )
    ax.grid(axis="y", color=LIGHT_GREY, linewidth=0.5)
    ax.legend(fontsize=8)
