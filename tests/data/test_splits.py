import pickle
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from scripts.split_perturbations import main
from vcpipe.config.splits import READ_BY, Split
from vcpipe.data.screen import Screen
from vcpipe.data.split_methods import simulation
from vcpipe.data.splits import (
    SPLITS,
    control_rows,
    draw_controls,
    draw_split,
    gears_lists,
    read_controls,
    read_split,
    rows_of,
    training_rows,
    write_controls,
    write_split,
)
from vcpipe.errors import InputError

SINGLES = [f"G{i}+ctrl" for i in range(10)]
COMBOS = ["G0+G1", "G2+G3", "G4+G5", "G6+G7", "G8+G9", "G0+G9", "G1+G2", "G3+G4"]

# A screen of 20 genes and 49 of their pairs: what GEARS_LISTS were drawn from.
MANY_SINGLES = [f"G{i}+ctrl" for i in range(20)]
MANY = MANY_SINGLES + [
    "+".join(sorted([f"G{i}", f"G{j}"])) for i in range(20) for j in (i + 1, i + 3, i + 7) if j < 20
]

METHODS = list(SPLITS)
SHARE = "combo_single_split_test_set_fraction"
SETTINGS = {
    method: Split(method=method, **({SHARE: 0.3} if method in READ_BY[SHARE] else {}))
    for method in METHODS
    if method not in ("custom", "published")  # these read files
}
# Obtained by running cell-gears 0.1.2's DataSplitter(..., type, seen).split_data(seed=1,
# test_size=the fraction) on MANY, or on MANY_SINGLES for simulation_single.
GEARS_LISTS = {
    ("simulation_single", None): {
        "val": "G14 G6",
        "test": "G13 G16 G19 G2 G5",
    },
    ("single", 0.1): {
        "val": "G4",
        "test": "G13 G19",
        "unused": "G1+G4 G10+G13 G11+G4 G12+G13 G12+G19 G13+G14 G13+G16 G13+G6 G16+G19 G18+G19 "
        "G3+G4 G4+G5 G4+G7",
    },
    ("no_test", None): {"val": "G1 G12 G15+G18 G16 G5 G9"},
    ("combo_seen0", 0.3): {
        "val": "G14",
        "test": "G13+G16 G13 G16+G17 G16+G19 G16 G17 G19 G2",
        "unused": "G1+G2 G10+G13 G10+G17 G11+G14 G12+G13 G12+G19 G13+G14 G13+G6 G14+G15 G14+G17 "
        "G14+G7 G15+G16 G16+G9 G17+G18 G18+G19 G2+G3 G2+G5 G2+G9",
    },
    ("combo_seen1", 0.1): {
        "val": "G1+G4 G11+G4 G3+G4 G4+G5 G4+G7 G4",
        "test": "G10+G13 G12+G13 G12+G19 G13+G14 G13+G16 G13+G6 G13 G16+G19 G18+G19 G19",
    },
    ("combo_seen2", 0.1): {
        "val": "G0+G1 G0+G3 G13+G6 G5+G8",
        "test": "G10+G3 G2+G9 G3+G4 G4+G5",
    },
}


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


def screen_of(perturbations: list[str]) -> Screen:
    """One cell of each perturbation in the order given, and two controls."""
    number = len(perturbations) + 2
    return Screen(
        path=Path("screen.h5ad"),
        genes=np.array(["G0"]),
        cells=np.array([f"cell{i}" for i in range(number)]),
        condition=np.array([*perturbations, "ctrl", "ctrl"]),
        batch=np.full(number, "b0"),
        cell_type=np.full(number, "K562"),
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
    sets, subgroups = simulation([*SINGLES, *COMBOS], Split(combo_seen2_train_fraction=0.85))
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


@pytest.mark.parametrize(("method", "fraction"), GEARS_LISTS)
def test_the_other_methods_draw_the_lists_of_cell_gears(method, fraction):
    expected = GEARS_LISTS[method, fraction]
    perturbations = MANY_SINGLES if method == "simulation_single" else MANY
    settings = {SHARE: fraction} if fraction else {}
    split, _ = draw_split(screen_of(perturbations), Split(method=method, **settings))
    for name in ("val", "test", "unused"):
        found = " ".join(sorted(split.conditions(name))).replace("+ctrl", "")
        assert found == expected.get(name, "")


def test_every_method_of_the_settings_is_drawn_by_a_function():
    methods = set(get_args(Split.model_fields["method"].annotation))
    assert set(SPLITS) == methods - {"held_out_context"}  # which is no split of conditions


@pytest.mark.parametrize("method", ["simulation_single", "single", "no_test", "k_fold"])
def test_three_single_perturbations_suffice_for_every_set(method):
    settings = {"num_folds": 3} if method == "k_fold" else {}
    settings |= {SHARE: 0.4} if method == "single" else {}
    perturbations = ["A+ctrl", "B+ctrl", "C+ctrl"]
    split, _ = draw_split(screen_of(perturbations), Split(method=method, **settings))
    sizes = [len(split.conditions(name)) for name in ("train", "val", "test")]
    assert sizes == ([2, 1, 0] if method == "no_test" else [1, 1, 1])


@pytest.mark.parametrize(
    ("perturbations", "method", "message"),
    [
        (SINGLES[:9], "single", f"leaves test empty: 9 target genes.*{SHARE} is 0.1, raise it"),
        ([*SINGLES, *COMBOS], "combo_seen2", f"leaves test empty.*{SHARE} is 0.1, raise it"),
        (SINGLES[:1], "no_test", "leaves train empty.*a screen of 2 or more"),
        (SINGLES[:4], "k_fold", "num_folds is 5, but there are 4 target genes.*lower num_folds"),
        (SINGLES, "combo_seen0", "combo_seen0 holds out combinations.*use method single"),
        (["G0+G1"], "simulation_single", r"but there are G0\+G1; use method simulation"),
    ],
)
def test_a_method_that_cannot_fill_its_sets_says_which_setting_to_change(
    perturbations, method, message
):
    with pytest.raises(InputError, match=message):
        draw_split(screen_of(perturbations), Split(method=method))


def test_a_split_that_leaves_nothing_to_train_on_says_so():
    with pytest.raises(InputError, match=f"leaves train empty.*{SHARE} is 0.99, lower it"):
        draw_split(
            screen_of(["A+ctrl", "A+B", "B+ctrl"]),
            Split(method="combo_seen1", seed=1, **{SHARE: 0.99}),
        )


def test_simulation_single_hands_on_the_subgroups_that_gears_forgets():
    split, subgroups = draw_split(screen_of(SINGLES), Split(method="simulation_single"))
    assert list(subgroups["test_subgroup"]) == ["unseen_single"]
    assert subgroups["test_subgroup"]["unseen_single"] == split.conditions("test")
    assert subgroups["val_subgroup"]["unseen_single"] == split.conditions("val")


def test_every_single_is_tested_in_exactly_one_fold(screen):
    folds = [Split(method="k_fold", num_folds=4, fold=fold) for fold in range(4)]
    tested = [one for fold in folds for one in draw_split(screen, fold)[0].conditions("test")]
    assert sorted(one for one in tested if one in SINGLES) == SINGLES
    assert set(COMBOS) <= set(tested)


@pytest.mark.parametrize("fold", range(3))
def test_no_gene_that_a_fold_holds_out_is_in_train(screen, fold):
    split, _ = draw_split(screen, Split(method="k_fold", num_folds=3, fold=fold))
    trained = {gene for one in split.conditions("train") for gene in one.split("+")} - {"ctrl"}
    for name in ("val", "test"):
        held_out = [one for one in split.conditions(name) if one.endswith("+ctrl")]
        assert held_out
        assert not trained & {one.removesuffix("+ctrl") for one in held_out}


def test_unused_combinations_are_in_no_list_and_in_no_training_rows(screen):
    split, _ = draw_split(screen, SETTINGS["single"])
    unused = split.conditions("unused")
    assert unused
    assert {split.subgroup[one, ""] for one in unused} == {"unused"}
    assert not set(unused) & {one for members in gears_lists(split).values() for one in members}
    rows = training_rows(screen, split, draw_controls(screen, 1))
    assert not set(unused) & set(screen.condition[rows])


def test_a_written_split_with_unused_combinations_is_a_custom_table(screen, tmp_path):
    split, _ = draw_split(screen, SETTINGS["single"])
    write_split(tmp_path / "split.tsv", split)
    again, _ = draw_split(screen, Split(method="custom", path=str(tmp_path / "split.tsv")))
    assert again.sets == split.sets


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": 1}, "fold is read by method k_fold and not by simulation"),
        ({"num_folds": 3}, "num_folds is read by method k_fold and not by simulation"),
        ({"method": "single", "train_gene_set_size": 0.5}, "train_gene_set_size is read by"),
        ({"method": "k_fold", "combo_seen2_train_fraction": 0.5}, "_fraction is read by"),
        ({SHARE: 0.2}, f"{SHARE} is read by method single, combo_seen0"),
        ({"method": "k_fold", "fold": 5}, "fold is 5 but num_folds is 5; expected 0 to 4"),
    ],
)
def test_a_setting_that_the_method_does_not_read_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Split(**settings)


@pytest.mark.parametrize("method", SETTINGS)
def test_settings_may_be_written_out_in_full(method):
    assert Split(**SETTINGS[method].model_dump()) == SETTINGS[method]


@pytest.mark.parametrize(
    "method", ["simulation", "single", "combo_seen0", "combo_seen1", "k_fold", "no_split"]
)
def test_sets_do_not_depend_on_row_order(screen, generator, method):
    split, _ = draw_split(screen, SETTINGS[method])
    other, _ = draw_split(shuffled(screen, generator), SETTINGS[method])
    assert other.sets == split.sets
    assert other.subgroup == split.subgroup


def test_no_gene_of_an_unseen_single_is_in_train(screen):
    split, _ = draw_split(screen, Split(seed=3))
    trained = {gene for one in split.conditions("train") for gene in one.split("+")} - {"ctrl"}
    unseen = [one for (one, _), group in split.subgroup.items() if group == "unseen_single"]
    assert unseen
    assert not trained & {one.removesuffix("+ctrl") for one in unseen}


def test_three_targets_give_one_perturbation_to_each_set():
    sets, _ = simulation(["A+ctrl", "B+ctrl", "C+ctrl"], Split())
    assert sorted(len(members) for members in sets.values()) == [1, 1, 1]


@pytest.mark.parametrize("number", [1, 2])
def test_a_split_with_an_empty_set_is_refused(number):
    with pytest.raises(
        InputError, match=r"leaves train.* empty: . target genes \(G0.*method no_sp"
    ):
        simulation(SINGLES[:number], Split())


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
    assert split.subgroup["G2+G3", ""] == "combo_seen2"
    assert split.subgroup["G0+ctrl", ""] == "seen_single"
    assert split.subgroup["G4+ctrl", ""] == "train"
    assert split.subgroup["ctrl", ""] == "control"


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
    assert split.num_cells["ctrl", ""] == 31


def test_names_with_carriage_returns_tabs_and_quotes_come_back(screen, tmp_path):
    names = np.array(["a\r", "b\r\n", "\rc", "d\te", 'f"g"', "h\n"])
    cells = screen.cells.astype(object)
    cells[screen.condition == "ctrl"] = [
        f"{number}{names[number % 6]}" for number in range((screen.condition == "ctrl").sum())
    ]
    screen = replace(screen, cells=cells.astype(str), batch=names[np.arange(len(cells)) % 6])
    controls = draw_controls(screen, 1)
    settings = {"context_key": "batch", "test_contexts": ["a\r"], "val_contexts": ["h\n"]}
    split, _ = draw_split(screen, Split(method="held_out_context", **settings))
    write_controls(tmp_path / "controls.tsv", controls)
    write_split(tmp_path / "split.tsv", split)
    assert read_controls(tmp_path / "controls.tsv") == controls
    assert read_split(tmp_path / "split.tsv") == split


@pytest.fixture
def edited(screen, tmp_path):
    """Write a table and give its path after an edit: edited("split.tsv", "train", "Test")."""
    write_split(tmp_path / "simulation.tsv", draw_split(screen, Split())[0])
    contexts = Split(method="held_out_context", context_key="batch", test_contexts=["b1"])
    write_split(tmp_path / "contexts.tsv", draw_split(screen, contexts)[0])
    write_controls(tmp_path / "controls.tsv", draw_controls(screen, 1))

    def edit(name: str, old: str, new: str) -> Path:
        text = (tmp_path / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new, 1))
        return tmp_path / name

    return edit


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("simulation.tsv", "\ttest\t", "\tTest\t", "has the sets Test; expected train, val, test"),
        (
            "simulation.tsv",
            "condition\tset\tsubgroup\tnum_cells\n",
            "condition\tset\tsubgroup\tnum_cells\nG5+ctrl\ttrain\ttrain\t3\n",
            r"names G5\+ctrl more than once; expected one line each",
        ),
        ("simulation.tsv", "ctrl\ttrain\tcontrol", "ctrl\ttest\tcontrol", "puts ctrl into test"),
        ("simulation.tsv", "\t3\n", "\tx\n", "has num_cells x; expected whole numbers"),
        ("simulation.tsv", "\t3\n", "\t3.5\n", "has num_cells 3.5; expected whole numbers"),
        ("simulation.tsv", "\t3\n", "\n", "has num_cells ; expected whole numbers"),
        (
            "contexts.tsv",
            "\tb1\ttest",
            "\tb1\ttrain",
            "has several sets in batch b1; expected one for all conditions",
        ),
    ],
)
def test_a_split_table_that_was_edited_wrongly_is_refused(edited, name, old, new, message):
    with pytest.raises(InputError, match=message):
        read_split(edited(name, old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scoring", "score", "has the uses score; expected model, scoring"),
        ("model", "models", "has the uses models; expected model, scoring"),
        ("cell\tuse\n", "cell\tuse\n" + 2 * "cell007\tmodel\n", "names cell007 more than once"),
    ],
)
def test_a_table_of_controls_that_was_edited_wrongly_is_refused(edited, old, new, message):
    with pytest.raises(InputError, match=message):
        read_controls(edited("controls.tsv", old, new))


@pytest.mark.parametrize("read", [read_split, read_controls])
def test_a_folder_is_no_table(read, tmp_path):
    with pytest.raises(InputError, match="is no TSV"):
        read(tmp_path)


def test_the_script_writes_what_gears_reads(screen, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vcpipe.data.screen.open_screen", lambda path: screen)
    names = {name: tmp_path / name for name in ("table", "pickle", "subgroup")}
    main(["--cells=screen.h5ad", *(f"--{name}={path}" for name, path in names.items()), "seed=4"])
    lists = pickle.loads(names["pickle"].read_bytes())
    split = read_split(names["table"])
    assert lists["train"].count("ctrl") == 1
    assert {(one, ""): name for name, members in lists.items() for one in members} == split.sets
    subgroups = pickle.loads(names["subgroup"].read_bytes())
    named = [one for group in subgroups["test_subgroup"].values() for one in group]
    assert sorted(named) == sorted(lists["test"])
    assert f"-> {names['table']}" in capsys.readouterr().out
