"""Scores of known predictors on simulated screens, from files to files."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scripts import fit_baseline, score_perturbations
from vcpipe.config.eval import Scoring, Summary
from vcpipe.data.model_cells import evaluated_conditions
from vcpipe.data.predicted_cells import PredictedCells
from vcpipe.data.predictions import open_predictions, write_predictions
from vcpipe.data.screen import open_screen
from vcpipe.data.splits import read_controls, read_split
from vcpipe.errors import InputError
from vcpipe.evaluation.baselines import BASELINES, open_baseline
from vcpipe.evaluation.scoring import read_scores, score, write_scores
from vcpipe.evaluation.summary import summarise

ABOUT = {"kind": "model", "dataset": "tiny", "split": "unseen", "config_digest": "c1"}


def truth(files, condition: str) -> np.ndarray:
    cells = ad.read_h5ad(files.cells)
    return cells[cells.obs["condition"] == condition].X.toarray()


def controls_of_the_model(files) -> np.ndarray:
    table = pd.read_csv(files.controls, sep="\t")
    return ad.read_h5ad(files.cells)[table.loc[table["use"] == "model", "cell"]].X.toarray()


def scored(files, predict, tmp_path, model="mine", config=None):
    """Write what `predict(condition)` gives for each evaluated condition, and score it."""
    screen = open_screen(files.cells)
    split, controls = read_split(files.split), read_controls(files.controls)
    conditions = list(evaluated_conditions(split))
    path = tmp_path / f"{model}.h5ad"
    cells = (PredictedCells(condition, predict(condition)) for condition in conditions)
    write_predictions(path, cells, screen.genes, {**ABOUT, "model": model})
    predictions = open_predictions(path, screen.genes, conditions)
    return score(screen, predictions, split, controls, config or Scoring())


def means(scores) -> pd.Series:
    return scores.per_perturbation.groupby("metric")["value"].mean()


def fit(files, tmp_path, name: str):
    """A fitted baseline as a function of the condition."""
    out = tmp_path / f"{name}.npz"
    fit_baseline.main(
        [
            *("--cells", str(files.cells), "--split", str(files.split)),
            *("--controls", str(files.controls), "--baseline", name, "--out", str(out)),
        ]
    )
    parameters, _ = open_baseline(out)
    cells_CG = controls_of_the_model(files)
    return lambda condition: BASELINES[name].predict_cells(parameters, condition, cells_CG)


def test_the_truth_scores_best(simulate, tmp_path):
    files = simulate(effect=0.3)
    found = means(scored(files, lambda condition: truth(files, condition), tmp_path))
    assert found["pearson"] == pytest.approx(1)
    assert found["pearson_delta_from_mean"] == pytest.approx(1)
    assert found["discrimination_l1"] == 1
    assert found["mse"] == pytest.approx(0, abs=1e-9)
    # Not 1: its two sides refer to different halves of the controls.
    assert 0.9 < found["pearson_delta"] < 1


def test_no_change_knows_nothing_of_the_changes(simulate, tmp_path):
    files = simulate(effect=0.3)
    cells_CG = controls_of_the_model(files)[::2]
    found = means(scored(files, lambda condition: cells_CG, tmp_path))
    assert found["pearson"] > 0.9
    assert abs(found["pearson_delta"]) < 0.2
    assert found["discrimination_l1"] == pytest.approx(0.5 + 1 / 16, abs=0.05)


def test_without_any_effect_the_train_mean_correlates_with_nothing(simulate, tmp_path):
    """With shared controls it would: the error of the control mean stands in both deltas."""
    disjoint, shared = [], []
    for seed in range(12):
        files = simulate(effect=0.0, seed=seed, name=f"null{seed}")
        scores = scored(files, fit(files, tmp_path, "train_mean"), tmp_path)
        disjoint.append(means(scores)["pearson_delta"])
        profiles = scores.profiles
        control_G = profiles.var["model_control"].to_numpy()
        shared += [
            np.corrcoef(predicted_G - control_G, measured_G - control_G)[0, 1]
            for predicted_G, measured_G in zip(
                profiles.layers["predicted"], profiles.layers["measured"], strict=True
            )
        ]
    error = np.std(disjoint) / np.sqrt(len(disjoint))
    assert abs(np.mean(disjoint)) < 3 * error
    assert np.mean(shared) > 0.25


def test_the_train_mean_finds_what_perturbations_share_and_nothing_else(simulate, tmp_path):
    files = simulate(effect=0.3)
    found = scored(files, fit(files, tmp_path, "train_mean"), tmp_path)
    assert means(found)["pearson_delta"] > 0.3
    assert means(found)["discrimination_l1"] == pytest.approx(0.5 + 1 / 16, abs=0.05)
    # Its change from the mean effect is none at all, so this correlation does not exist.
    assert np.isnan(means(found)["pearson_delta_from_mean"])
    note = "pearson_delta_from_mean is undefined for 8 of 8 perturbations, which it leaves out."
    assert note in found.about["notes"]


def test_the_perturbed_gene_is_left_out_of_its_own_scores(simulate, tmp_path):
    files = simulate(effect=0.3)
    genes = open_screen(files.cells).genes

    def wrong_target(condition: str) -> np.ndarray:
        cells_CG = truth(files, condition).copy()
        cells_CG[:, genes == condition.split("+")[0]] = 0.5
        return cells_CG

    assert means(scored(files, wrong_target, tmp_path))["mse"] == pytest.approx(0, abs=1e-9)
    included = Scoring(exclude_target=False)
    assert means(scored(files, wrong_target, tmp_path, config=included))["mse"] > 1e-3
    profiles = scored(files, wrong_target, tmp_path).profiles
    targets = genes == np.array([[name.split("+")[0]] for name in profiles.obs_names])
    assert not (profiles.layers["de"] & targets).any()
    assert (profiles.layers["de"].sum(axis=1) == 20).all()


def test_a_split_without_test_is_scored_on_what_was_seen(simulate, tmp_path):
    files = simulate(effect=0.3)
    split = pd.read_csv(files.split, sep="\t")
    split["set"] = "train"
    split.to_csv(files.split, sep="\t", index=False)
    scores = scored(files, lambda condition: truth(files, condition), tmp_path)
    found = scores.per_perturbation
    assert set(found["subgroup"]) == {"seen"}
    assert "these perturbations were trained on" in scores.about["notes"][0]
    rows = summarise([scores], Summary())
    assert set(rows["task"]) == {"seen_perturbation"}
    assert found["condition"].nunique() == 24
    assert "ctrl" not in set(found["condition"])


def test_predictions_from_other_data_are_refused(simulate, tmp_path):
    files = simulate(effect=0.3)
    screen = open_screen(files.cells)
    split = read_split(files.split)
    conditions = list(evaluated_conditions(split))
    cells = (PredictedCells(one, truth(files, one)) for one in conditions)
    about = {**ABOUT, "model": "mine", "data_digest": "other"}
    write_predictions(tmp_path / "mine.h5ad", cells, screen.genes, about)
    predictions = open_predictions(tmp_path / "mine.h5ad", screen.genes, conditions)
    with pytest.raises(InputError, match="whose data_digest is other, but that of"):
        score(screen, predictions, split, read_controls(files.controls), Scoring())


def test_the_script_writes_a_folder_that_reads_back(simulate, tmp_path):
    files = simulate(effect=0.3)
    expected = scored(files, lambda condition: truth(files, condition), tmp_path)
    out = tmp_path / "scores"
    score_perturbations.main(
        [
            *("--predictions", str(tmp_path / "mine.h5ad"), "--cells", str(files.cells)),
            *("--split", str(files.split), "--controls", str(files.controls)),
            *("--out", str(out)),
        ]
    )
    found = read_scores(out)
    assert sorted(path.name for path in out.iterdir()) == [
        "about.json",
        "per_perturbation.csv",
        "profiles.h5ad",
    ]
    pd.testing.assert_frame_equal(
        found.per_perturbation, expected.per_perturbation, check_dtype=False
    )
    assert found.about == expected.about
    assert found.about["data_digest"] == "d1"
    assert json.loads(found.profiles.uns["vcpipe"]) == found.about


def test_undefined_scores_stay_empty_in_the_file(simulate, tmp_path):
    files = simulate(effect=0.3)
    scores = scored(files, fit(files, tmp_path, "train_mean"), tmp_path)
    write_scores(tmp_path / "scores", scores)
    table = read_scores(tmp_path / "scores").per_perturbation
    chosen = table[table["metric"] == "pearson_delta_from_mean"]
    assert len(chosen) == 8
    assert chosen["value"].isna().all()
