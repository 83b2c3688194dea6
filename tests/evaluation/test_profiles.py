"""Profiles from a pass over the screen equal those of the whole matrix at once."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from vcpipe.data.screen import open_screen
from vcpipe.data.splits import read_controls, read_split
from vcpipe.errors import InputError
from vcpipe.evaluation.profiles import (
    differential_genes,
    measured_profiles,
    target_genes,
    training_profiles,
)


@pytest.fixture
def files(simulate):
    return simulate(effect=0.3)


@pytest.fixture
def opened(files):
    return open_screen(files.cells), read_split(files.split), read_controls(files.controls)


def controls_of(files, use: str) -> np.ndarray:
    """Dense values of one half of the controls, read without our code."""
    cells = ad.read_h5ad(files.cells)
    table = pd.read_csv(files.controls, sep="\t")
    return cells[table.loc[table["use"] == use, "cell"]].X.toarray().astype(float)


def test_profiles_are_means_of_their_cells(opened):
    screen, split, controls = opened
    whole = screen.values(slice(None)).toarray()
    measured = measured_profiles(screen, split, controls, ["GENE03+ctrl", "GENE00+ctrl"])
    for position, condition in enumerate(measured.conditions):
        cells = whole[screen.condition == condition]
        np.testing.assert_allclose(measured.mean_PG[position], cells.mean(axis=0), rtol=1e-5)
    assert measured.num_cells_P.tolist() == [20, 20]


def test_the_train_mean_weighs_perturbations_equally_and_holds_no_test(opened):
    screen, split, controls = opened
    measured = measured_profiles(screen, split, controls, ["GENE00+ctrl"])
    training = training_profiles(screen, split, controls)
    assert "GENE00+ctrl" not in training.conditions
    np.testing.assert_allclose(measured.train_mean_G, training.mean_PG.mean(axis=0))


def test_the_halves_of_the_controls_stay_apart(opened, files):
    measured = measured_profiles(*opened, ["GENE00+ctrl"])
    for use, found_G in (
        ("model", measured.model_control_G),
        ("scoring", measured.scoring_control_G),
    ):
        np.testing.assert_allclose(found_G, controls_of(files, use).mean(axis=0), rtol=1e-5)
    assert not np.allclose(measured.model_control_G, measured.scoring_control_G)


def test_t_is_scipys_welch_t_against_the_scoring_half(opened, files):
    measured = measured_profiles(*opened, ["GENE06+ctrl"])
    cells = ad.read_h5ad(files.cells)
    perturbed = cells[cells.obs["condition"] == "GENE06+ctrl"].X.toarray().astype(float)
    expected = ttest_ind(perturbed, controls_of(files, "scoring"), equal_var=False)
    np.testing.assert_allclose(measured.t_PG[0], expected.statistic, rtol=1e-4)


def test_the_strongest_allowed_genes_are_differential():
    t_PG = np.array([[1.0, -5.0, 3.0, 0.0], [0.0, 0.0, 2.0, 0.0]])
    allowed_PG = np.array([[True, True, False, True], [True, True, True, True]])
    expected = [[True, True, False, False], [False, False, True, False]]
    assert differential_genes(t_PG, allowed_PG, 2).tolist() == expected


def test_both_genes_of_a_combination_are_targets():
    genes = np.array(["A", "B", "C"])
    found = target_genes(["A+ctrl", "C+A", "X+ctrl"], genes)
    assert found.tolist() == [[True, False, False], [True, False, True], [False, False, False]]


def test_a_condition_that_the_screen_lacks_is_named(opened):
    screen, split, controls = opened
    with pytest.raises(InputError, match=r"no cells of NOWHERE\+ctrl"):
        measured_profiles(screen, split, controls, ["NOWHERE+ctrl"])
