import pandas as pd
import pytest

from scripts.fit_baseline import main as fit_baseline
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


def predict(files, path, num_cells: int = 7):
    screen = open_screen(files.cells)
    split, controls = read_split(files.split), read_controls(files.controls)
    cells, about = predictions(screen, split, controls, path, Prediction(num_cells=num_cells))
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
