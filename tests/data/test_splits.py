import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.split_perturbations import main
from vcpipe.config.splits import Split
from vcpipe.data.screen import Screen
from vcpipe.data.splits import (
    control_rows,
    draw_controls,
    draw_split,
    gears_lists,
    read_controls,
    read_split,
    rows_of,
    simulation,
    training_rows,
    write_controls,
    write_split,
)
from vcpipe.errors import InputError

SINGLES = [f"G{i}+ctrl" for i in range(10)]
COMBOS = ["G0+G1", "G2+G3", "G4+G5", "G6+G7", "G8+G9", "G0+G9", "G1+G2", "G3+G4"]


@pytest.fixture
def screen() -> Screen:
    """18 perturbations of 3 cells each and 31 controls, in drawn order, in 4 batches."""
    generator = np.random.default_rng(5)
    condition = generator.permutation([*SINGLES * 3, *COMBOS * 3, *["ctrl"] * 31])
    number = np.arange(len(condition))
    return Screen(
        path=Path("screen.h5ad"),
        genes=np.array(["G0"]),
        cells=np.array([f"cell{i:03d}" for i in number]),
        condition=condition,
        batch=generator.choice(["b0", "b1", "b2", "b3"], len(condition)),
        cell_type=np.full(len(condition), "K562"),
        about={},
    )


def shuffled(screen: Screen, generator: np.random.Generator) -> Screen:
    order = generator.permutation(len(screen.cells))
    names = ("cells", "condition", "batch", "cell_type")
    return replace(screen, **{name: getattr(screen, name)[order] for name in names})


@pytest.fixture
def custom(tmp_path):
    """Write a table of {condition: set} and give the settings that read it."""

    def write(rows: list[tuple[str, str]]) -> Split:
        table = pd.DataFrame(rows, columns=["condition", "set"])
        table.to_csv(tmp_path / "custom.tsv", sep="\t", index=False)
        return Split(method="custom", path=str(tmp_path / "custom.tsv"))

    return write


def test_simulation_draws_the_lists_of_cell_gears():
    # Obtained by running cell-gears 0.1.2's DataSplitter(..., "simulation").split_data(
    # train_gene_set_size=0.75, combo_seen2_train_frac=0.85, seed=1) on these conditions.
    sets, subgroups = simulation([*SINGLES, *COMBOS], 0.75, 0.85, 1)
    assert {name: sorted(members) for name, members in sets.items()} == {
        "train": sorted([f"G{i}+ctrl" for i in (0, 1, 2, 3, 4, 9)] + ["G0+G1", "G1+G2", "G3+G4"]),
        "val": ["G0+G9", "G6+ctrl"],
        "test": ["G2+G3", "G4+G5", "G5+ctrl", "G6+G7", "G7+ctrl", "G8+G9", "G8+ctrl"],
    }
    assert subgroups == {
        "test_subgroup": {
            "combo_seen0": [],
            "combo_seen1": ["G4+G5", "G6+G7", "G8+G9"],
            "combo_seen2": ["G2+G3"],
            "unseen_single": ["G5+ctrl", "G7+ctrl", "G8+ctrl"],
        },
        "val_subgroup": {
            "combo_seen0": [],
            "combo_seen1": [],
            "combo_seen2": ["G0+G9"],
            "unseen_single": ["G6+ctrl"],
        },
    }


@pytest.mark.upstream
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(5))
def test_simulation_equals_cell_gears_itself(screen, seed):
    upstream = pytest.importorskip("gears.data_utils")
    import anndata as ad

    table, subgroups = draw_split(screen, Split(seed=seed))
    cells = ad.AnnData(obs=pd.DataFrame({"condition": screen.condition}, index=screen.cells))
    theirs, their_subgroups = upstream.DataSplitter(cells, "simulation").split_data(
        train_gene_set_size=0.75, combo_seen2_train_frac=0.85, seed=seed
    )
    lists = theirs.obs.groupby("split")["condition"].agg(lambda column: list(column.unique()))
    assert gears_lists(table) == lists.to_dict()
    assert subgroups == their_subgroups


def test_sets_do_not_depend_on_row_order(screen, generator):
    split, _ = draw_split(screen, Split())
    other, _ = draw_split(shuffled(screen, generator), Split())
    assert other.sets == split.sets
    assert other.subgroup == split.subgroup


def test_no_gene_of_an_unseen_single_is_in_train(screen):
    split, _ = draw_split(screen, Split(seed=3))
    trained = {gene for one in split.conditions("train") for gene in one.split("+")} - {"ctrl"}
    unseen = [one for one, group in split.subgroup.items() if group == "unseen_single"]
    assert unseen
    assert not trained & {one.removesuffix("+ctrl") for one in unseen}


def test_three_targets_give_one_perturbation_to_each_set():
    sets, _ = simulation(["A+ctrl", "B+ctrl", "C+ctrl"], 0.75, 0.85, 1)
    assert sorted(len(members) for members in sets.values()) == [1, 1, 1]


@pytest.mark.parametrize("number", [1, 2])
def test_a_split_with_an_empty_set_is_refused(number):
    with pytest.raises(
        InputError, match=r"leaves train.* empty: . target genes \(G0.*method no_sp"
    ):
        simulation(SINGLES[:number], 0.75, 0.85, 1)


def test_no_split_puts_everything_into_train(screen):
    split, subgroups = draw_split(screen, Split(method="no_split"))
    assert sorted(split.conditions("train")) == sorted([*SINGLES, *COMBOS])
    assert split.conditions("val") == split.conditions("test") == []
    assert subgroups == {}


def test_a_custom_table_is_followed_whatever_the_order_of_a_pair(screen, custom):
    rows = [(one, "train") for one in [*SINGLES[2:], *COMBOS[2:]]]
    rows += [("G0", "val"), ("ctrl+G1", "test"), ("G1+G0", "test"), ("G3+G2", "test")]
    split, _ = draw_split(screen, custom([*rows, ("ctrl", "train")]))
    assert split.conditions("val") == ["G0+ctrl"]
    assert set(split.conditions("test")) == {"G1+ctrl", "G0+G1", "G2+G3"}
    assert split.subgroup["G2+G3"] == "combo_seen2"
    assert split.subgroup["G0+ctrl"] == "seen_single"
    assert split.subgroup["G4+ctrl"] == "train"
    assert split.subgroup["ctrl"] == "control"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([("G77", "test")], r"names G77\+ctrl, which the screen lacks; expected one line for each"),
        ([("G1+G0", "test")], r"more than once: G0\+G1 \(train\), G1\+G0 \(test\)"),
        ([("G0", "train"), ("G0+ctrl", "val")], r"more than once: G0\+ctrl \(train\), G0 "),
        ([("ctrl", "test")], "puts ctrl into val or test"),
        ([("G0", "holdout")], "has the sets holdout; expected train, val, test"),
    ],
)
def test_a_wrong_custom_table_is_refused(screen, custom, change, message):
    rows = [(one, "train") for one in [*SINGLES, *COMBOS]]
    with pytest.raises(InputError, match=message):
        draw_split(screen, custom(rows + change))


def test_a_custom_table_that_lacks_perturbations_is_refused_with_their_names(screen, custom):
    rows = [(one, "train") for one in [*SINGLES[1:], *COMBOS[:-1]]]
    with pytest.raises(InputError, match=r"lacks G0\+ctrl, G3\+G4 of the screen"):
        draw_split(screen, custom(rows))


def test_a_custom_table_without_train_is_refused(screen, custom):
    with pytest.raises(InputError, match="puts no perturbation into train"):
        draw_split(screen, custom([(one, "test") for one in [*SINGLES, *COMBOS]]))


def test_a_custom_table_without_its_columns_is_refused(screen, tmp_path):
    (tmp_path / "split.tsv").write_text("condition,set\nG0,train\n")
    with pytest.raises(InputError, match="has no column condition, set; its columns are condition"):
        draw_split(screen, Split(method="custom", path=str(tmp_path / "split.tsv")))


def test_controls_are_halved_within_every_batch(screen):
    controls = draw_controls(screen, seed=1)
    batch = dict(zip(screen.cells, screen.batch, strict=True))
    sizes = pd.crosstab(pd.Series(batch).reindex(list(controls)), pd.Series(controls))
    assert ((sizes["model"] - sizes["scoring"]).abs() <= 1).all()
    assert sorted(sizes.sum()) == [15, 16]


def test_controls_depend_on_the_seed_and_not_on_row_order(screen, generator):
    assert draw_controls(shuffled(screen, generator), 1) == draw_controls(screen, 1)
    assert draw_controls(screen, 2) != draw_controls(screen, 1)


def test_a_single_control_cell_cannot_be_halved(screen):
    condition = screen.condition.copy()
    condition[np.flatnonzero(condition == "ctrl")[1:]] = "G0+ctrl"
    with pytest.raises(InputError, match="has 1 control cells; expected at least 2"):
        draw_controls(replace(screen, condition=condition), 1)


def test_training_rows_are_train_perturbations_and_the_models_controls(screen):
    split, _ = draw_split(screen, Split())
    controls = draw_controls(screen, 1)
    rows = training_rows(screen, split, controls)
    assert (np.diff(rows) > 0).all()
    scoring = control_rows(screen, controls, "scoring")
    held_out = rows_of(screen, split.conditions("val") + split.conditions("test"))
    parts = np.concatenate([rows, scoring, held_out])
    np.testing.assert_array_equal(np.sort(parts), np.arange(len(screen.cells)))


def test_a_split_or_controls_of_another_screen_are_refused(screen):
    split, _ = draw_split(screen, Split())
    controls = draw_controls(screen, 1)
    other = replace(screen, condition=np.char.replace(screen.condition, "G9+ctrl", "X+ctrl"))
    with pytest.raises(InputError, match=r"has X\+ctrl, which the split lacks"):
        training_rows(other, split, controls)
    with pytest.raises(InputError, match="are not the 31 control cells"):
        training_rows(screen, split, dict(list(controls.items())[1:]))
    with pytest.raises(InputError, match=r"has no cells of X\+ctrl"):
        rows_of(screen, ["X+ctrl"])


def test_tables_come_back_as_they_were_written(screen, tmp_path):
    split, _ = draw_split(screen, Split())
    controls = draw_controls(screen, 1)
    write_split(tmp_path / "split.tsv", split)
    write_controls(tmp_path / "controls.tsv", controls)
    assert read_split(tmp_path / "split.tsv") == split
    assert read_controls(tmp_path / "controls.tsv") == controls
    assert split.num_cells["ctrl"] == 31


def test_the_script_writes_what_gears_reads(screen, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vcpipe.data.screen.open_screen", lambda path: screen)
    names = {name: tmp_path / name for name in ("table", "controls", "pickle", "subgroup")}
    main(["--cells=screen.h5ad", *(f"--{name}={path}" for name, path in names.items()), "seed=4"])
    lists = pickle.loads(names["pickle"].read_bytes())
    split = read_split(names["table"])
    assert lists["train"].count("ctrl") == 1
    assert {one: name for name, members in lists.items() for one in members} == split.sets
    subgroups = pickle.loads(names["subgroup"].read_bytes())
    named = [one for group in subgroups["test_subgroup"].values() for one in group]
    assert sorted(named) == sorted(lists["test"])
    assert read_controls(names["controls"]) == draw_controls(screen, 4)
    assert "31 control cells" in capsys.readouterr().out
