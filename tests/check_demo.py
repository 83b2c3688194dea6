"""What `make demo` and `make demo-models` leave behind; run by .ci/run after them."""

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import anndata as ad
import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from vcpipe.config.loader import STRATEGIES, TASKS
from vcpipe.config.reading import read_pipeline
from vcpipe.data.cell_store.reading import open_store

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "results"
RUNS = {"scgpt_demo", "scgpt_demo_random"}
LEARNED = 0.999  # of the first validation loss, which is from after an epoch
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


def test_every_model_learns_something_of_cells_that_it_does_not_train_on():
    runs = read_pipeline([PROJECT / "config/demo.yaml"])[0].pretrain
    table = pd.read_csv(RESULTS / "pretrain/comparison.csv").set_index("run")
    assert set(table.index) == set(runs)
    assert table["objective"].nunique() == len(table) == 6
    for name in runs:
        losses = pd.read_csv(RESULTS / f"pretrain/{name}/metrics.csv")["val_loss"].dropna()
        assert losses.min() < LEARNED * losses.iloc[0], name
        assert table.loc[name, "first_val_loss"] == pytest.approx(losses.iloc[0], rel=1e-5)
        assert table.loc[name, "best_val_loss"] == pytest.approx(losses.min(), rel=1e-5)


def test_cells_that_were_held_out_lie_by_cells_of_their_type_by_their_open_peaks_alone():
    cells = ad.read_h5ad(RESULTS / "embed_cells/demo_peaks/demo_human.h5ad")
    store = open_store(RESULTS / "prepare_cells/demo_pairs")
    names = store.labels(np.array(store.sets["val"]), ["cell"])["cell"].to_pylist()
    is_val = cells.obs_names.isin(names)
    assert is_val.sum() == len(names) == 96
    vectors, types = cells.obsm["X_demo_peaks"], cells.obs["cell_type"].to_numpy()
    nearest = cKDTree(vectors[~is_val]).query(vectors[is_val])[1]
    assert (types[~is_val][nearest] == types[is_val]).mean() > 0.5  # by chance 1 of 6


def test_the_checks_find_every_knockdown_of_the_simulated_screen():
    checks = pd.read_csv(RESULTS / "eval/data_checks.tsv", sep="\t").set_index("key")
    assert checks.loc["num_judged_targets", "value"] == "40 of 40"
    assert checks["advice"].isna().all()


@pytest.fixture(scope="module")
def loading() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "loader/summary.csv")


def test_every_strategy_was_run_with_each_seed(loading):
    runs = loading[loading["seed"].notna()]
    found = sorted(zip(runs["strategy"], runs["seed"].astype(int), runs["task"], strict=True))
    assert found == sorted(product(STRATEGIES, (0, 1, 2), TASKS))


def test_drugs_are_learned_the_better_the_more_cells_are_mixed(loading):
    """scDataset's finding; a store that is shuffled once is as good as random order."""
    of_drug = loading[loading["task"] == "drug"].groupby("strategy")["macro_f1"].mean()
    assert of_drug["streaming"] < of_drug["block_shuffling"] < of_drug["random_sampling"]
    assert of_drug["full_shuffle"] == pytest.approx(of_drug["random_sampling"], abs=0.1)


def test_batches_of_blocks_and_of_the_store_are_mixed(loading):
    mixed = loading.groupby("strategy")["entropy_plate"].mean()
    most = loading["entropy_plate_of_chance"].mean()
    assert mixed["streaming"] < 0.2 * most
    assert mixed["full_shuffle"] == pytest.approx(most, rel=0.1)


def test_the_report_holds_the_table_and_the_figures():
    text = (RESULTS / "report.html").read_text()
    assert "System Message" not in text
    for name in (
        *("summary.csv", "verdicts.tsv", "summary.html", "loss_curves.svg", "knockdown.svg"),
        *("loader/over_seeds.tsv", "loader/comparison.svg", "loader/training_curves.svg"),
        *("loader/time_comparison.svg", "loader/quality.svg"),
        *("pretrain/comparison.csv", "pretrain/loss_curves.svg", "cell_type.svg"),
    ):
        assert name in text, name


def test_a_strategy_that_is_disabled_makes_nothing_else_anew():
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/demo", "-n"]
    command += ["results/loader/summary.csv", "--config"]
    command += ["set=loader.strategies.streaming.enabled=false"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    rules = re.findall(r"^rule (\w+):", done.stdout + done.stderr, re.MULTILINE)
    assert rules == ["summarise_loader"]


def test_the_notebook_draws_its_figures_of_them(monkeypatch):
    monkeypatch.setitem(os.environ, "VCPIPE_RESULTS", str(RESULTS))
    notebook = nbformat.read(PROJECT / "scripts/analyze_results.ipynb", as_version=4)
    folder = {"metadata": {"path": str(PROJECT / "scripts")}}
    nbclient.NotebookClient(notebook, timeout=300, resources=folder).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
