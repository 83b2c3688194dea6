"""A context that is held out stays out: its perturbed cells and its controls, wherever rows go."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from scripts.split_perturbations import main
from vcpipe.config.splits import Split
from vcpipe.data.model_cells import evaluated_conditions, model_rows, start_rows
from vcpipe.data.pairing import Pairs, check_own_contexts, pair_controls
from vcpipe.data.screen import Screen
from vcpipe.data.splits import (
    controls_of_set,
    draw_controls,
    draw_split,
    gears_lists,
    perturbed_rows,
    read_split,
    sets_of_cells,
    split_digest,
    training_rows,
    write_split,
)
from vcpipe.errors import InputError

EVERYWHERE = ["G0+ctrl", "G1+ctrl", "G2+ctrl"]
# What only one cell type has.
ONLY = {"A": ["G5+ctrl"], "B": [], "C": ["G0+G1", "G4+ctrl"]}
CELL_TYPE = Split(
    method="held_out_context", context_key="cell_type", test_contexts=["C"], val_contexts=["B"]
)
BATCHES = Split(method="held_out_context", context_key="batch", test_contexts=["A1", "A2"])


@pytest.fixture
def screen() -> Screen:
    """Three cell types in three batches each: 4 controls and 2 cells of each perturbation."""
    rows = [
        (one, f"{cell_type}{number}", cell_type)
        for cell_type, own in ONLY.items()
        for number in range(3)
        for one in ["ctrl"] * 4 + (EVERYWHERE + own) * 2
    ]
    rows = [rows[place] for place in np.random.default_rng(3).permutation(len(rows))]
    condition, batch, cell_type = (np.array(column) for column in zip(*rows, strict=True))
    return Screen(
        path=Path("screen.h5ad"),
        genes=np.array(["G0"]),
        cells=np.array([f"cell{number:03d}" for number in range(len(rows))]),
        condition=condition,
        batch=batch,
        cell_type=cell_type,
        about={"data_digest": "d", "settings": {"normalisation": {"target_sum": 1e4}}},
    )


def test_a_perturbation_may_be_in_train_and_in_test(screen):
    split, subgroups = draw_split(screen, CELL_TYPE)
    assert set(EVERYWHERE) <= set(split.conditions("train")) & set(split.conditions("test"))
    assert split.sets["G0+ctrl", "A"] == "train"
    assert split.sets["G0+ctrl", "B"] == "val"
    assert split.sets["G0+ctrl", "C"] == split.sets["ctrl", "C"] == "test"
    assert subgroups == {}


@pytest.mark.parametrize("split", [CELL_TYPE, BATCHES], ids=["cell_type", "batch"])
def test_rows_follow_the_context(screen, split):
    table, controls = draw_split(screen, split)[0], draw_controls(screen, 1)
    context = getattr(screen, split.context_key)
    is_test, is_val = np.isin(context, split.test_contexts), np.isin(context, split.val_contexts)
    is_control = screen.condition == "ctrl"
    test, val = (np.flatnonzero(chosen & ~is_control) for chosen in (is_test, is_val))
    np.testing.assert_array_equal(perturbed_rows(screen, table, "test"), test)
    np.testing.assert_array_equal(model_rows(screen, table, controls)["val"], val)

    rows = training_rows(screen, table, controls)
    of_models = np.array([controls.get(cell) == "model" for cell in screen.cells])
    learned = ~is_test & ~is_val & (~is_control | of_models)
    np.testing.assert_array_equal(rows, np.flatnonzero(learned))
    np.testing.assert_array_equal(
        start_rows(screen, table, controls), np.flatnonzero(is_test & of_models)
    )
    np.testing.assert_array_equal(
        controls_of_set(screen, table, controls, "test", "scoring"),
        np.flatnonzero(is_test & is_control & ~of_models),
    )


def test_the_subgroup_says_what_training_has_shown(screen):
    split, _ = draw_split(screen, CELL_TYPE)
    assert evaluated_conditions(split) == {
        **dict.fromkeys(EVERYWHERE, "unseen_context"),
        "G0+G1": "unseen_context_and_perturbation",
        "G4+ctrl": "unseen_context_and_gene",
    }
    assert split.subgroup["G0+ctrl", "B"] == "unseen_context"
    assert split.subgroup["G0+ctrl", "A"] == "train"
    assert split.subgroup["ctrl", "C"] == "control"


def test_several_test_batches_are_evaluated_as_one(screen):
    split, _ = draw_split(screen, BATCHES)
    assert evaluated_conditions(split) == dict.fromkeys([*EVERYWHERE, "G5+ctrl"], "unseen_context")


def test_the_split_does_not_depend_on_row_order(screen, generator):
    order = generator.permutation(len(screen.cells))
    names = ("cells", "condition", "batch", "cell_type")
    other = replace(screen, **{name: getattr(screen, name)[order] for name in names})
    split = draw_split(screen, CELL_TYPE)[0]
    assert draw_split(other, CELL_TYPE)[0] == split
    np.testing.assert_array_equal(sets_of_cells(other, split), sets_of_cells(screen, split)[order])


@pytest.mark.parametrize("split", [CELL_TYPE, BATCHES], ids=["cell_type", "batch"])
def test_the_table_has_a_column_of_contexts_and_comes_back(screen, split, tmp_path):
    table, _ = draw_split(screen, split)
    write_split(tmp_path / "split.tsv", table)
    assert read_split(tmp_path / "split.tsv") == table
    written = pd.read_csv(tmp_path / "split.tsv", sep="\t")
    assert written.columns[1] == split.context_key
    assert written["num_cells"].sum() == len(screen.cells)


def test_other_held_out_contexts_are_another_split(screen):
    controls = draw_controls(screen, 1)
    digests = {
        split_digest(draw_split(screen, split)[0], controls)
        for split in (CELL_TYPE, BATCHES, BATCHES.model_copy(update={"test_contexts": ["A1"]}))
    }
    assert len(digests) == 3


def test_gears_lists_only_conditions_whose_cells_are_in_one_set(screen):
    lists = gears_lists(draw_split(screen, CELL_TYPE)[0])
    assert {name: sorted(members) for name, members in lists.items()} == {
        "train": ["G5+ctrl", "ctrl"],
        "val": [],
        "test": ["G0+G1", "G4+ctrl"],
    }


def test_the_script_names_what_gears_cannot_express(screen, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vcpipe.data.screen.open_screen", lambda path: screen)
    names = {name: tmp_path / name for name in ("table", "pickle", "subgroup")}
    options = [f"--{name}={path}" for name, path in names.items()]
    config = CELL_TYPE.model_copy(update={"val_contexts": []}).model_dump_json()
    main(["--cells=screen.h5ad", *options, "--config", config])
    text = capsys.readouterr().out
    assert "held_out_context: 4 train, 0 val, 5 test, 0 unused" in text
    assert "GEARS lists whole conditions; 3 with cells in two sets are in none" in text
    assert "G0+ctrl, G1+ctrl, G2+ctrl" in text
    assert pickle.loads(names["pickle"].read_bytes())["test"].count("G0+ctrl") == 0


def test_contexts_that_cannot_be_held_out_are_refused(screen):
    unknown = CELL_TYPE.model_copy(update={"test_contexts": ["X"]})
    with pytest.raises(InputError, match="no cell_type X; those it has are A, B, C"):
        draw_split(screen, unknown)
    mixed = BATCHES.model_copy(update={"test_contexts": ["A0", "C1"]})
    with pytest.raises(InputError, match=r"A0, C1 of .* hold several cell types \(A, C\), which"):
        draw_split(screen, mixed)


def without(screen: Screen, gone: np.ndarray) -> Screen:
    names = ("cells", "condition", "batch", "cell_type")
    return replace(screen, **{name: getattr(screen, name)[~gone] for name in names})


def test_a_context_without_controls_or_perturbed_cells_is_refused(screen):
    is_control, is_c = screen.condition == "ctrl", screen.cell_type == "C"
    with pytest.raises(InputError, match="has 0 control cells of cell_type C; expected at least 2"):
        draw_split(without(screen, is_control & is_c), CELL_TYPE)
    with pytest.raises(InputError, match="no perturbed cells for test: its contexts are C"):
        draw_split(without(screen, ~is_control & is_c), CELL_TYPE)
    with pytest.raises(InputError, match="no perturbed cells for train: no context remains"):
        draw_split(without(screen, screen.cell_type == "A"), CELL_TYPE)
    others = is_control & (screen.batch == "A0")
    with pytest.raises(InputError, match="0 control cells of cell type A in the train contexts"):
        draw_split(without(screen, others), BATCHES)


def test_a_screen_that_was_made_anew_is_refused(screen):
    split, controls = draw_split(screen, CELL_TYPE)[0], draw_controls(screen, 1)
    renamed = replace(screen, cell_type=np.char.replace(screen.cell_type, "A", "X"))
    with pytest.raises(InputError, match=r"has G0\+ctrl in X, .*which the split lacks"):
        training_rows(renamed, split, controls)
    gone = (screen.condition == "G2+ctrl") & (screen.cell_type == "B")
    with pytest.raises(InputError, match=r"has no cells of G2\+ctrl in B; was it made anew"):
        training_rows(without(screen, gone), split, controls)


def test_pairs_across_held_out_contexts_are_refused(screen, generator):
    controls = draw_controls(screen, 1)
    split = draw_split(screen, BATCHES)[0]

    def pairs(within: str) -> Pairs:
        return Pairs(Path("pairs.npz"), pair_controls(screen, controls, within, generator), {})

    check_own_contexts(pairs("batch"), screen, split)
    check_own_contexts(pairs("screen"), screen, draw_split(screen, Split(method="no_split"))[0])
    for within in ("cell_type", "screen"):
        with pytest.raises(InputError, match=r"set gears\.pairing\.within to batch"):
            check_own_contexts(pairs(within), screen, split)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs context_key and test_contexts"),
        ({"context_key": "batch"}, "needs context_key and test_contexts"),
        (
            {"context_key": "cell_type", "test_contexts": ["A", "B"]},
            "expected one cell type in each at most",
        ),
        (
            {"context_key": "batch", "test_contexts": ["A"], "val_contexts": ["A"]},
            "name a context twice: A, A",
        ),
        (
            {"method": "simulation", "context_key": "batch"},
            "context_key is read by method",
        ),
    ],
)
def test_settings_that_name_no_contexts_to_hold_out_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Split(**({"method": "held_out_context"} | settings))
