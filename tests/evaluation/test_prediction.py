import sys

import numpy as np
import pandas as pd
import pytest

from scripts.fit_baseline import main as fit_baseline
from tests.benchmarks.measuring import run
from tests.benchmarks.prediction import predicted
from vcpipe.config.eval import Prediction
from vcpipe.data.screen import open_screen
from vcpipe.data.splits import read_controls, read_split
from vcpipe.errors import InputError
from vcpipe.evaluation.prediction import predictions


@pytest.fixture
def fitted(simulate, tmp_path):
    """Files of a screen, and a baseline that was fitted on them."""

    def fit(baseline: str):
        files = simulate(0.3)
        out = tmp_path / f"{baseline}.npz"
        arguments = {"cells": files.cells, "split": files.split, "controls": files.controls}
        options = [text for name, path in arguments.items() for text in (f"--{name}", str(path))]
        fit_baseline([*options, "--baseline", baseline, "--out", str(out)])
        return files, out

    return fit


def predict(files, path, targets=None, **settings):
    screen = open_screen(files.cells)
    split, controls = read_split(files.split), read_controls(files.controls)
    config = Prediction(**{"num_cells": 7, **settings})
    cells, about = predictions(screen, split, controls, path, config, targets)
    return screen, {one.condition: one.values_CG for one in cells}, about


@pytest.mark.parametrize("baseline", ["no_change", "train_mean", "ridge_pca"])
def test_every_held_out_perturbation_has_its_cells(fitted, baseline):
    files, path = fitted(baseline)
    _, cells, about = predict(files, path)
    split = read_split(files.split)
    assert sorted(cells) == sorted(split.conditions("test"))
    assert {values_CG.shape[0] for values_CG in cells.values()} == {7}
    assert about["kind"] == "baseline"


def test_no_change_predicts_control_cells_of_the_models_half(fitted):
    files, path = fitted("no_change")
    screen, cells, _ = predict(files, path)
    controls = pd.read_csv(files.controls, sep="\t").set_index("cell")["use"]
    values_CG = screen.values(slice(None)).toarray()
    rows = {row.tobytes(): name for row, name in zip(values_CG, screen.cells, strict=True)}
    drawn = {rows[row.tobytes()] for values_CG in cells.values() for row in values_CG}
    assert set(controls[list(drawn)]) == {"model"}


def test_a_baseline_of_another_split_is_refused(fitted):
    files, path = fitted("ridge_pca")
    table = pd.read_csv(files.split, sep="\t")
    table["set"] = table["set"].replace({"test": "train", "train": "test"})
    table.loc[table["condition"] == "ctrl", "set"] = "train"
    table.to_csv(files.split, sep="\t", index=False)
    with pytest.raises(InputError, match="may have been trained on there"):
        predict(files, path)


@pytest.mark.parametrize("baseline", ["no_change", "train_mean", "ridge_pca"])
def test_listed_targets_are_predicted_as_held_out_ones_are(fitted, tmp_path, baseline):
    files, path = fitted(baseline)
    (tmp_path / "list.csv").write_text("target_gene,n_cells\nGENE00,7\nGENE40,3\nGENE41+GENE01,2\n")
    _, cells, about = predict(files, path, tmp_path / "list.csv")
    _, of_split, _ = predict(files, path)
    assert {name: len(values_CG) for name, values_CG in cells.items()} == {
        "GENE00+ctrl": 7,
        "GENE40+ctrl": 3,
        "GENE01+GENE41": 2,
    }
    np.testing.assert_array_equal(cells["GENE00+ctrl"], of_split["GENE00+ctrl"])
    assert about["notes"][0] == "12 cells of 3 targets, as list.csv asks"


def test_a_target_that_no_gene_of_the_screen_is_stops_or_stays_a_control(fitted, tmp_path):
    files, path = fitted("train_mean")
    (tmp_path / "list.csv").write_text("target_gene,n_cells\nNOGENE,7\n")
    with pytest.raises(InputError, match=r"names NOGENE\+ctrl, and .*cells.h5ad lacks a gene"):
        predict(files, path, tmp_path / "list.csv")
    screen, cells, about = predict(files, path, tmp_path / "list.csv", unknown_targets="no_change")
    assert "predicted unchanged" in about["notes"][1]
    controls = screen.values(np.flatnonzero(screen.condition == "ctrl")).toarray()
    assert {row.tobytes() for row in cells["NOGENE+ctrl"]} <= {row.tobytes() for row in controls}


@pytest.mark.slow
def test_four_times_as_many_targets_take_no_more_memory(tmp_path):
    """At 18,080 genes, where the 3,000 cells of the many are 217 MB."""
    made = tmp_path / "vcc"
    run(sys.executable, "-m", "tests.benchmarks.prediction", "prepare", made, "1200")
    few, many = (predicted(made, "no_change", targets, 250) for targets in (3, 12))
    assert many["peak_mb"] < few["peak_mb"] + 40
