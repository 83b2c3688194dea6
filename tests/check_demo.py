"""What `make demo` must leave behind; run by .ci/run after it, not by `make test`."""

from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "results"
RUNS = {"scgpt_demo", "scgpt_demo_random"}
BASELINES = {"no_change", "train_mean", "ridge_pca"}


@pytest.fixture(scope="module")
def summary() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "eval/summary.csv")


def test_the_models_and_all_baselines_are_in_the_summary(summary):
    assert set(summary["model"]) == RUNS | BASELINES
    assert set(summary.loc[summary["kind"] == "model", "model"]) == RUNS


def test_every_model_is_scored_on_every_held_out_perturbation(summary):
    split = pd.read_csv(RESULTS / "split_perturbations/demo/simulation_1_0.75.tsv", sep="\t")
    held_out = (split["set"] == "test").sum()
    assert held_out == 10
    assert (summary.loc[summary["metric"] == "mse", "n"] == held_out).all()


def test_no_change_has_no_direction(summary):
    values = summary.set_index(["model", "metric"])["value"]
    assert abs(values["no_change", "pearson_delta"]) < 0.1


def test_the_training_mean_cannot_tell_perturbations_apart(summary):
    values = summary.set_index(["model", "metric"])["value"]
    assert values["train_mean", "discrimination_l1"] == pytest.approx(0.5, abs=0.12)


def test_pretraining_and_finetuning_learned_something():
    for path in (
        RESULTS / "pretrain/demo_masked/metrics.csv",
        *(RESULTS / f"finetune_perturbation/{run}/metrics.csv" for run in RUNS),
    ):
        losses = pd.read_csv(path)["val_loss"].dropna()
        assert losses.min() < losses.iloc[0], path


def test_the_checks_find_every_knockdown_of_the_simulated_screen():
    checks = pd.read_csv(RESULTS / "eval/data_checks.tsv", sep="\t").set_index("key")
    assert checks.loc["num_judged_targets", "value"] == "40 of 40"
    assert checks["advice"].isna().all()


def test_the_report_holds_the_table_and_the_figures():
    text = (RESULTS / "report.html").read_text()
    assert "System Message" not in text
    for name in ("summary.csv", "verdicts.tsv", "summary.html", "loss_curves.svg", "knockdown.svg"):
        assert name in text
