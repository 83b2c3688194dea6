"""The figures of a summary, a folder for each dataset and split."""

from pathlib import Path

import pandas as pd

from vcpipe.evaluation.scoring import Scores
from vcpipe.plots.figures import save_svg
from vcpipe.plots.perturbations import per_perturbation_scores
from vcpipe.plots.predictions import predicted_against_measured
from vcpipe.plots.summary import summary_chart


def write_figures(folder: Path, scores: list[Scores], summary: pd.DataFrame) -> None:
    """Write {dataset}/{split}/{models,perturbations,predictions}.svg into the folder."""
    for (dataset, split), rows in summary.groupby(["dataset", "split"]):
        here = [
            each
            for each in scores
            if (each.about["dataset"], each.about["split"]) == (dataset, split)
        ]
        here.sort(key=lambda each: (each.about["kind"] != "model", each.about["model"]))
        place = f"{dataset}, split {split}"
        figures = {
            "models": summary_chart(rows, place),
            "perturbations": per_perturbation_scores(here, place),
            "predictions": predicted_against_measured(here, place),
        }
        (folder / dataset / split).mkdir(parents=True)
        for name, figure in figures.items():
            save_svg(figure, folder / dataset / split / f"{name}.svg")
