"""Predicted against measured changes of genes, a panel for each model."""

# P perturbations, G genes

import anndata as ad
import numpy as np
from matplotlib.figure import Figure

from vcpipe.evaluation.scoring import Scores
from vcpipe.plots.figures import GREY, LIGHT_GREY, VERMILION, drawing, panels


def predicted_against_measured(scores: list[Scores], place: str) -> Figure:
    """All scored genes of all test perturbations in grey, their DE genes in colour."""
    deltas = [_deltas(each.profiles) for each in scores]
    limit = 1.05 * max(np.abs(measured).max(initial=1e-3) for _, measured, _ in deltas)
    with drawing():
        figure, axes = panels(len(scores), width=2.7, height=2.7)
        for ax, each, (predicted, measured, is_de) in zip(axes, scores, deltas, strict=True):
            _draw_model(ax, predicted, measured, is_de, limit)
            ax.set_title(_title(each.about))
        axes[0].legend(loc="upper left", fontsize=8, handletextpad=0.1, borderaxespad=0.1)
        figure.suptitle(f"Predicted and measured change of each gene\n{place}")
        figure.supxlabel(
            "Measured Δ from control (log1p); predictions beyond the frame stand on its edge",
            fontsize=9,
        )
        figure.supylabel("Predicted Δ from control (log1p)", fontsize=9)
    return figure


def _title(about: dict) -> str:
    return about["model"] + (" (baseline)" if about["kind"] == "baseline" else "")


def _deltas(profiles: ad.AnnData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted change, measured change and DE of the scored genes, over all perturbations."""
    scored_PG = profiles.layers["scored"]
    predicted_PG = profiles.layers["predicted"] - profiles.var["model_control"].to_numpy()
    measured_PG = profiles.layers["measured"] - profiles.var["scoring_control"].to_numpy()
    return predicted_PG[scored_PG], measured_PG[scored_PG], profiles.layers["de"][scored_PG]


def _draw_model(ax, predicted, measured, is_de, limit: float) -> None:
    # Genes beyond the frame stand on its edge. Rasterised: a million paths would choke a browser.
    shown = predicted.clip(-limit, limit)
    ax.axline((0, 0), slope=1, color=GREY, linewidth=0.8, linestyle="--", zorder=1)
    ax.axhline(0, color=LIGHT_GREY, linewidth=0.6, zorder=0)
    ax.axvline(0, color=LIGHT_GREY, linewidth=0.6, zorder=0)
    for chosen, colour, size, label in (
        (~is_de, GREY, 3, "other genes"),
        (is_de, VERMILION, 8, "DE genes"),
    ):
        ax.scatter(
            measured[chosen],
            shown[chosen],
            s=size,
            color=colour,
            alpha=0.5,
            linewidth=0,
            rasterized=True,
            label=label,
            zorder=2,
        )
    ax.set(xlim=(-limit * 1.03, limit * 1.03), ylim=(-limit * 1.03, limit * 1.03), aspect="equal")
    ax.locator_params(nbins=5)
