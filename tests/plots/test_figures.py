"""Figures show every model, are the same each time, and load nothing from the network."""

import re
from html.parser import HTMLParser

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from vcpipe.config.eval import Summary
from vcpipe.evaluation.metrics import METRICS
from vcpipe.evaluation.scoring import Scores
from vcpipe.evaluation.summary import summarise
from vcpipe.plots.figures import save_svg
from vcpipe.plots.report import write_figures
from vcpipe.plots.summary import summary_chart
from vcpipe.plots.table import summary_page
from vcpipe.plots.training import loss_curves

NUM_PERTURBATIONS = 12
NUM_GENES = 40


def scores_of(model: str, kind: str, generator: np.random.Generator) -> Scores:
    """Random scores and profiles; train_mean has an undefined metric, as in truth."""
    names = [f"G{i}+ctrl" for i in range(NUM_PERTURBATIONS)]
    undefined = {"pearson_delta_from_mean"} if model == "train_mean" else set()
    table = pd.concat(
        pd.DataFrame(
            {
                "condition": names,
                "subgroup": "unseen_single",
                "num_cells": 10,
                "metric": metric,
                "value": np.nan if metric in undefined else generator.random(NUM_PERTURBATIONS),
            }
        )
        for metric in METRICS
    )
    shape = (NUM_PERTURBATIONS, NUM_GENES)
    measured_PG = generator.gamma(1, 0.5, shape)
    layers = {
        "predicted": measured_PG + generator.normal(scale=0.2, size=shape),
        "measured": measured_PG,
        "scored": np.ones(shape, dtype=bool),
        "de": generator.random(shape) < 0.1,
    }
    var = pd.DataFrame(
        {"model_control": 0.5, "scoring_control": 0.5, "train_mean": 0.6},
        index=[f"G{i}" for i in range(NUM_GENES)],
    )
    about = {
        "model": model,
        "kind": kind,
        "dataset": "tiny",
        "split": "unseen",
        "config_digest": "c1",
        "data_digest": "d1",
        "num_perturbations": NUM_PERTURBATIONS,
        "scoring": {},
        "notes": [],
    }
    return Scores(table, ad.AnnData(obs=pd.DataFrame(index=names), var=var, layers=layers), about)


@pytest.fixture
def scores(generator) -> list[Scores]:
    models = {"scgpt": "model", "train_mean": "baseline", "no_change": "baseline"}
    return [scores_of(model, kind, generator) for model, kind in models.items()]


@pytest.fixture
def summary(scores) -> pd.DataFrame:
    return summarise(scores, Summary(num_bootstrap=100))


@pytest.fixture
def log(generator) -> pd.DataFrame:
    step = np.arange(1, 301)
    loss = 1 / np.sqrt(step) + 0.05 * generator.random(300)
    val_loss = np.where(step % 100 == 0, loss + 0.1, np.nan)
    return pd.DataFrame({"step": step, "lr": 0.1, "train_loss": loss, "val_loss": val_loss})


def test_figures_are_the_same_bytes_each_time(scores, summary, log, tmp_path):
    for name in ("first", "second"):
        write_figures(tmp_path / name, scores, summary)
        save_svg(loss_curves({"pretrain/rna": log}), tmp_path / name / "loss_curves.svg")
    files = sorted(path for path in (tmp_path / "first").rglob("*") if path.is_file())
    names = [str(path.relative_to(tmp_path / "first")) for path in files]
    assert names == [
        "loss_curves.svg",
        "tiny/unseen/models.svg",
        "tiny/unseen/perturbations.svg",
        "tiny/unseen/predictions.svg",
    ]
    for path, name in zip(files, names, strict=True):
        assert path.read_bytes() == (tmp_path / "second" / name).read_bytes(), name
        assert b"<dc:date>" not in path.read_bytes()


def test_without_runs_the_figure_says_so():
    assert [text.get_text() for text in loss_curves({}).texts] == ["no training runs"]


def test_each_run_has_a_panel(log):
    figure = loss_curves({f"pretrain/run{i}": log for i in range(5)})
    titles = [ax.get_title() for ax in figure.axes if ax.get_visible()]
    assert titles == [f"pretrain/run{i}" for i in range(5)]


def test_a_run_without_any_loss_yet_has_an_empty_panel(log):
    figure = loss_curves({"pretrain/new": log.iloc[:0]})
    assert figure.axes[0].get_title() == "pretrain/new"


def test_the_chart_names_each_model_and_says_what_is_undefined(summary):
    figure = summary_chart(summary, "tiny, split unseen")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["scgpt", "no_change", "train_mean"]
    position = list(METRICS).index("pearson_delta_from_mean")
    assert [text.get_text() for text in figure.axes[position].texts] == ["undefined"]


class Cells(HTMLParser):
    """Collect the tags and the text of an HTML page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data.strip())


def test_the_html_table_holds_every_value_and_needs_no_network(summary):
    page = summary_page(summary)
    assert not re.search(r"https?://|src=|@import", page)
    found = Cells()
    found.feed(page)
    numbers = [
        attrs for tag, attrs in found.tags if tag == "td" and "number" in attrs.get("class", "")
    ]
    assert len(numbers) == 3 * len(METRICS)
    assert sum("best" in attrs["class"] for attrs in numbers) == len(METRICS)
    assert found.text.count("–") == 1
    assert "mse ↓" in found.text
    assert "pearson ↑" in found.text


def test_names_cannot_break_the_html_table(summary):
    page = summary_page(summary.replace({"model": {"scgpt": "<b>&"}}))
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
