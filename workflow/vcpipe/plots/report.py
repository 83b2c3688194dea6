"""The figures of a summary, one file each, for the report and for people."""

from pathlib import Path

import pandas as pd

from vcpipe.evaluation.scoring import Scores
from vcpipe.plots.figures import save_svg
from vcpipe.plots.perturbations import per_perturbation_scores
from vcpipe.plots.predictions import predicted_against_measured
from vcpipe.plots.summary import summary_chart
from vcpipe.plots.table import summary_page
from vcpipe.plots.training import loss_curves


def write_figures(
    folder: Path, scores: list[Scores], summary: pd.DataFrame, logs: dict[str, pd.DataFrame]
) -> None:
    """Write summary.html, loss_curves.svg, and three figures for each dataset and split."""
    folder.mkdir()
    (folder / "summary.html").write_text(summary_page(summary))
    if logs:
        save_svg(loss_curves(logs), folder / "loss_curves.svg")
    for (dataset, split), rows in summary.groupby(["dataset", "split"]):
        here = [
            each
            for each in scores
            if (each.about["dataset"], each.about["split"]) == (dataset, split)
        ]
        here.sort(key=lambda each: (each.about["kind"] != "model", each.about["model"]))
        place = f"{dataset}, split {split}"
        figures = {
            "summary": summary_chart(rows, place),
            "perturbations": per_perturbation_scores(here, place),
            "predictions": predicted_against_measured(here, place),
        }
        for name, figure in figures.items():
            save_svg(figure, folder / f"{dataset}.{split}.{name}.svg")
