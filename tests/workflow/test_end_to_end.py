"""The tiny DAG, run for real: what lies in its results, and what a kill leaves."""

import os
import pickle
import shutil
import signal
import subprocess
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from tests.workflow.conftest import Workflow
from vcpipe.data.cell_store.reading import open_store

COLUMNS = [
    "model",
    "kind",
    "dataset",
    "split",
    "task",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "higher_is_better",
    "official",
    "config_digest",
    "data_digest",
]


@pytest.fixture
def results(finished):
    return finished.folder / "results"


def test_the_summary_has_the_model_the_baselines_and_every_metric(results):
    summary = pd.read_csv(results / "eval/summary.csv")
    assert list(summary.columns) == COLUMNS
    kinds = summary.groupby("model")["kind"].unique().explode().to_dict()
    assert kinds == {
        "tiny_model": "model",
        "no_change": "baseline",
        "train_mean": "baseline",
        "ridge_pca": "baseline",
    }
    assert (summary.groupby("model")["metric"].nunique() == 8).all()
    assert summary["data_digest"].nunique() == 1
    finite = summary.dropna(subset=["value"])
    assert (finite["ci_low"] <= finite["value"] + 1e-12).all()
    assert (finite["value"] <= finite["ci_high"] + 1e-12).all()


def test_the_report_says_how_many_genes_the_vocabulary_knows(results):
    fates = pd.read_csv(results / "eval/gene_matches.tsv", sep="\t").set_index("fate")
    assert set(fates["run"]) == {"tiny_model"}
    assert fates.loc["exact", "number"] == fates.loc["matched", "number"] == 60
    genes = pd.read_csv(results / "match_genes/tiny_model/genes.tsv", sep="\t")
    assert (genes["gene"] == genes["token"]).all()


def test_the_report_says_what_the_corpus_holds(results):
    tables = {
        path.stem: pd.read_csv(path, sep="\t")
        for path in (results / "check_corpus/tiny").glob("*.tsv")
    }
    (coverage,) = tables["coverage"].to_dict("records")
    assert (coverage["features"], coverage["used"], coverage["unknown"]) == (60, 60, 0)
    assert tables["cells"]["cells"].sum() == 400
    store = open_store(results / "prepare_cells/tiny")
    kept = tables["cells"].set_index("what")["cells"]["train"]
    assert kept == len(store) == tables["lengths"]["cells"].sum()
    assert tables["truncation"]["run"].tolist() == ["tiny_masked"]
    # The only run does not bin.
    assert tables["bins"].empty


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_gears_finds_its_files(results):
    folder = results / "convert_to_gears/tiny"
    screen = ad.read_h5ad(folder / "perturb_processed.h5ad")
    assert {"condition", "cell_type", "dose_val", "condition_name"} <= set(screen.obs)
    with (folder / "splits/tiny_simulation_1_0.75.pkl").open("rb") as file:
        split = pickle.load(file)
    assert {"train", "val", "test"} == set(split)
    with (folder / "data_pyg/cell_graphs.pkl").open("rb") as file:
        graphs = pickle.load(file)
    assert set(graphs) == set(screen.obs["condition"])
    with np.load(results / "pair_controls/tiny/pairs.npz") as file:
        assert sum(map(len, graphs.values())) == (file["control_row"] >= 0).sum() < len(screen)
    assert graphs["ctrl"][0].x.shape == (60, 1)


def test_no_cell_that_is_tested_on_was_trained_on(results):
    split = pd.read_csv(results / "split_perturbations/tiny/simulation_1_0.75.tsv", sep="\t")
    trained = open_store(results / "prepare_cells/tiny").labels().to_pandas()
    held_out = set(split.loc[split["set"] != "train", "condition"])
    assert held_out
    assert not held_out & set(trained["condition"])
    controls = pd.read_csv(results / "pair_controls/tiny/controls.tsv", sep="\t")
    scoring = set(controls.loc[controls["use"] == "scoring", "cell"])
    assert not scoring & set(trained["cell"])


def test_every_prediction_is_a_whole_h5ad_on_the_same_genes(results):
    files = sorted((results / "predict_perturbations").rglob("*.h5ad"))
    assert len(files) == 4
    tables = [ad.read_h5ad(file) for file in files]
    for table in tables:
        assert table.var_names.equals(tables[0].var_names)
        assert np.isfinite(table.X.data).all()
        assert (table.obs["condition"].value_counts() == 10).all()


def test_the_checkpoint_says_what_made_it(results):
    folder = results / "finetune_perturbation/tiny_model/checkpoint"
    assert {path.name for path in folder.iterdir()} - {".snakemake_timestamp"} == {
        "best_model.pt",
        "model.safetensors",
        "args.json",
        "vocab.json",
        "run.log",
    }
    assert torch.load(folder / "best_model.pt", weights_only=True)
    about = pd.read_json(folder / "args.json", typ="series")["vcpipe"]
    summary = pd.read_csv(results / "eval/summary.csv").set_index("model")
    assert set(summary.loc["tiny_model", "config_digest"]) == {about["config_digest"]}
    assert set(summary.loc["tiny_model", "data_digest"]) == {about["data_digest"]}


def test_the_report_is_written_without_complaints(finished):
    finished.run("--report", "results/report.html")
    text = (finished.folder / "results/report.html").read_text()
    assert "System Message" not in text
    for name in ("summary.csv", "verdicts.tsv", "summary.html", "loss_curves.svg", "models.svg"):
        assert name in text
    for name in ("coverage.tsv", "truncation.tsv", "lengths.svg", "cells.svg"):
        assert name in text
    for name in ("data_checks.tsv", "knockdown.svg", "batches.svg", "targets.tsv"):
        assert name in text


def test_the_checks_of_every_dataset_stand_in_one_table(results):
    checks = pd.read_csv(results / "eval/data_checks.tsv", sep="\t").set_index("key")
    assert set(checks["dataset"]) == {"tiny"}
    assert checks.loc["num_cells", "value"] == "400"
    assert checks.loc["perturbations.target_not_measured", "flag"] == "ok"


def wait_for(found, seconds: float = 120) -> None:
    end = time.time() + seconds
    while not found():
        assert time.time() < end, "it took too long"
        time.sleep(0.05)


PRETRAINED = "results/pretrain/tiny_masked/checkpoint"


def longer_pretraining(finished: Workflow, folder: Path) -> Workflow:
    """The finished workflow, but for a pretraining that takes long enough to be killed."""
    again = finished.copied(folder)
    shutil.rmtree(again.folder / "results/.checkpoints")
    again.edit(
        "tests/workflow/config.yaml", "max_epochs: 2, checkpoint", "max_epochs: 40, checkpoint"
    )
    return again


def pretrained_weights(workflow: Workflow) -> dict[str, torch.Tensor]:
    return torch.load(workflow.folder / PRETRAINED / "best_model.pt", weights_only=True)


@pytest.fixture(scope="module")
def uninterrupted(finished, tmp_path_factory) -> dict[str, torch.Tensor]:
    whole = longer_pretraining(finished, tmp_path_factory.mktemp("whole") / "project")
    whole.run(PRETRAINED)
    return pretrained_weights(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_pretraining_goes_on_where_it_was(finished, uninterrupted, tmp_path, number):
    """Everything is killed in the middle; a rerun continues, and ends with the same weights."""
    again = longer_pretraining(finished, tmp_path / "project")
    running = subprocess.Popen(
        again.command(PRETRAINED),
        cwd=again.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    state = again.folder / "results/.checkpoints/pretrain/tiny_masked"
    wait_for(lambda: list(state.glob("*/last.pt")))
    os.killpg(running.pid, number)
    running.wait()
    assert not (again.folder / PRETRAINED).exists()

    again.run("--unlock", PRETRAINED)
    again.run(PRETRAINED)

    log = next(state.glob("*/run.log")).read_text()
    assert "resumed at update" in log
    resumed = pretrained_weights(again)
    assert uninterrupted.keys() == resumed.keys()
    assert all(torch.equal(uninterrupted[name], resumed[name]) for name in resumed)
