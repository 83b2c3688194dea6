"""The figures of the checks show every target and batch, and colour what is flagged."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from vcpipe.config.checks import Checked, Checks
from vcpipe.data import screen
from vcpipe.plots.checks import (
    CONTROL,
    batch_figure,
    knockdown_figure,
    perturbation_figure,
    write_check_figures,
)
from vcpipe.plots.figures import GREY, VERMILION


def targets_of(num_targets: int, generator: np.random.Generator) -> pd.DataFrame:
    """Most are knocked down; the last but one is not, the last was not measured."""
    names = [f"G{i:03d}" for i in range(num_targets)]
    knockdown = np.append(generator.uniform(0.6, 0.9, num_targets - 2), [0.05, np.nan])
    return pd.DataFrame(
        {
            "condition": [f"{name}+ctrl" for name in names],
            "cell_type": "H1",
            "target": names,
            "verdict": ["knocked_down"] * (num_targets - 2)
            + ["weak_knockdown", "target_not_measured"],
            "fold_change": 1 - knockdown,
            "standard_error": np.append(np.full(num_targets - 1, 0.05), np.nan),
            "knockdown": knockdown,
        }
    )


@pytest.fixture
def perturbations() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "condition": ["ctrl", "A+ctrl", "B+ctrl", "C+ctrl"],
            "cell_type": "H1",
            "num_cells": [500, 80, 12, 90],
            "median_umi": [5000, 4800, 5100, 1200],
            "umi_q25": [4000, 3800, 4100, 900],
            "umi_q75": [6000, 5800, 6100, 1500],
            "flags": ["", "", "few_cells,weak_knockdown", "low_depth"],
        }
    )


@pytest.fixture
def batches() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "batch": ["b0", "b1", "b2"],
            "cell_type": "H1",
            "num_cells": [100, 100, 100],
            "num_controls": [20, 1, 0],
            "control_share": [0.2, 0.01, 0.0],
            "median_umi": [5000, 5000, 900],
            "umi_q25": [4000, 4000, 700],
            "umi_q75": [6000, 6000, 1100],
            "flags": ["", "few_controls", "no_controls,low_depth"],
        }
    )


def dots(ax, colour: str) -> list[tuple[float, float]]:
    """Places of the dots of one colour."""
    return [
        tuple(map(float, place))
        for collection in ax.collections
        if len(collection.get_facecolor())
        and np.allclose(collection.get_facecolor()[0], to_rgba(colour))
        for place in collection.get_offsets()
    ]


def test_figures_are_the_same_bytes_each_time(perturbations, batches, generator, tmp_path):
    tables = {
        "perturbations": perturbations,
        "targets": targets_of(5, generator),
        "batches": batches,
    }
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_check_figures(tmp_path / name, tables, Checked(), "tiny")
    files = sorted((tmp_path / "first").iterdir())
    assert [file.name for file in files] == ["batches.svg", "knockdown.svg", "perturbations.svg"]
    for file in files:
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_targets_stand_in_falling_order_and_the_unmeasured_one_has_words(generator):
    ax = knockdown_figure(targets_of(6, generator), Checked(), "tiny").axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[-2:] == ["G004", "G005"]
    assert [text.get_text() for text in ax.texts] == ["not measured"]
    middles = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert middles == sorted(middles, reverse=True)


def test_the_line_of_the_least_knockdown_is_drawn(generator):
    config = Checked(thresholds={"min_knockdown": 0.4})
    ax = knockdown_figure(targets_of(6, generator), config, "tiny").axes[0]
    assert 0.4 in [line.get_xdata()[0] for line in ax.lines if line.get_color() == GREY]


def test_many_targets_share_several_panels_and_too_many_lose_their_names(generator):
    figure = knockdown_figure(targets_of(150, generator), Checked(), "vcc")
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [len(ax.get_yticklabels()) for ax in shown] == [50, 50, 50]
    figure = knockdown_figure(targets_of(500, generator), Checked(), "genome")
    assert [len(ax.get_yticklabels()) for ax in figure.axes] == [0]


@pytest.mark.parametrize("effect", ["up", "none"])
def test_rising_targets_are_drawn_on_a_logarithm_also_where_nothing_is_left(effect, generator):
    targets = targets_of(4, generator)
    targets["verdict"] = ["activated", "activated", "weak_activation", "target_not_measured"]
    targets["fold_change"] = [8.0, 2.0, 0.0, np.nan]
    ax = knockdown_figure(targets, Checked(effect=effect), "tiny").axes[0]
    middles = sorted(line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o")
    assert middles[1:] == [1, 3]
    assert np.isfinite(middles[0])


def test_a_screen_whose_targets_were_all_not_measured_has_a_figure(generator):
    targets = targets_of(3, generator).assign(verdict="target_not_measured")
    targets[["knockdown", "fold_change", "standard_error"]] = np.nan
    ax = knockdown_figure(targets, Checked(), "tiny").axes[0]
    assert len(ax.texts) == 3


def test_flagged_perturbations_are_coloured_where_their_flag_belongs(perturbations):
    cells, depth = perturbation_figure(perturbations, Checks(), "tiny").axes
    assert dots(cells, VERMILION) == [(3, 12)]
    assert dots(depth, VERMILION) == [(3, 1200)]


def test_flagged_batches_are_coloured_where_their_flag_belongs(batches):
    depth, share = batch_figure(batches, Checks(), "tiny").axes
    assert dots(depth, VERMILION) == [(900, 2)]
    assert dots(share, VERMILION) == [(0.01, 1), (0.0, 2)]
    assert [label.get_text() for label in depth.get_yticklabels()] == ["b0", "b1", "b2"]


def test_hundreds_of_batches_have_no_names(batches):
    many = pd.concat([batches] * 100, ignore_index=True)
    figure = batch_figure(many, Checks(), "plates")
    assert len(figure.axes[0].get_yticklabels()) == 0
    assert figure.get_size_inches()[1] < 12


def test_figures_and_tables_call_controls_alike():
    assert CONTROL == screen.CONTROL


def test_several_cell_types_are_named(batches):
    batches["cell_type"] = ["T", "B", "B"]
    names = [
        label.get_text()
        for label in batch_figure(batches, Checks(), "tiny").axes[0].get_yticklabels()
    ]
    assert names == ["b0, T", "b1, B", "b2, B"]


def test_targets_of_a_combination_name_it(generator):
    targets = targets_of(3, generator)
    targets.loc[0, "condition"] = "G000+G001"
    names = [
        label.get_text()
        for label in knockdown_figure(targets, Checked(), "tiny").axes[0].get_yticklabels()
    ]
    assert "G000 of G000+G001" in names
