"""Which perturbations a model may learn from: train, val, test, and the two halves of the controls.

How they are drawn is in split_methods.py; here is what is made, written and read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.config.datasets import Columns
from vcpipe.config.splits import Split
from vcpipe.data.labels import condition_of
from vcpipe.data.screen import CONTROL, Screen, perturbed_genes
from vcpipe.data.split_methods import (
    Drawn,
    Subgroups,
    combo_seen0,
    combo_seen1,
    combo_seen2,
    genes_of,
    k_fold,
    no_split,
    no_test,
    simulation,
    simulation_single,
    single,
)
from vcpipe.errors import InputError, listed
from vcpipe.files import digest, existing, writing

SETS = ("train", "val", "test")
UNUSED = "unused"  # in no set: combinations of genes of two sets, in some of GEARS's methods
USES = ("model", "scoring")


@dataclass(frozen=True)
class SplitTable:
    """The set and the subgroup of every condition, the control included."""

    sets: dict[str, str]  # condition -> train, val, test, unused
    subgroup: dict[str, str]  # condition -> unseen_single, combo_seen0, ..., train, control
    num_cells: dict[str, int]

    def conditions(self, set_name: str) -> list[str]:
        """The perturbations of a set, without the control."""
        return [one for one, its in self.sets.items() if its == set_name and one != CONTROL]


def draw_split(screen: Screen, split: Split) -> tuple[SplitTable, dict[str, Subgroups]]:
    """Draw or read a split of the screen's perturbations; also GEARS's subgroup dictionaries."""
    conditions = list(pd.unique(screen.condition))
    perturbations = [one for one in conditions if one != CONTROL]
    sets, subgroups = SPLITS[split.method](perturbations, split)
    set_of = dict.fromkeys(perturbations, UNUSED) | {CONTROL: "train"}
    set_of |= {one: name for name, members in sets.items() for one in members}
    subgroup = {one: _subgroup(one, set_of[one], sets["train"]) for one in conditions}
    # GEARS counts genes of val as seen by test.
    subgroup |= {one: kind for part in subgroups.values() for kind in part for one in part[kind]}
    sizes = pd.Series(screen.condition).value_counts()
    num_cells = {one: int(sizes[one]) for one in conditions}
    return SplitTable({one: set_of[one] for one in conditions}, subgroup, num_cells), subgroups


def _subgroup(condition: str, set_name: str, train: list[str]) -> str:
    """How many of a held-out condition's genes the training perturbations have."""
    if condition == CONTROL:
        return "control"
    if set_name in ("train", UNUSED):
        return set_name
    genes = perturbed_genes(condition)
    num_seen = len(set(genes) & set(genes_of(train)))
    if len(genes) == 2:
        return f"combo_seen{num_seen}"
    return "seen_single" if num_seen else "unseen_single"


def read_custom(path: Path, perturbations: list[str]) -> dict[str, list[str]]:
    """Read a table of condition and set that names each perturbation of the screen once."""
    table = _read_tsv(path, ["condition", "set"], "a split table with columns condition, set")
    known = (*SETS, UNUSED)
    wrong = sorted(set(table["set"]) - set(known))
    if wrong:
        raise InputError(f"{path} has the sets {listed(wrong)}; expected {', '.join(known)}.")
    table["name"] = [condition_of(label, Columns()) for label in table["condition"]]
    if (table["set"][table["name"] == CONTROL] != "train").any():
        raise InputError(
            f"{path} puts {CONTROL} into val or test; leave it out: controls are always in train, "
            "and half of them are kept for scoring."
        )
    table = table[table["name"] != CONTROL]
    repeated = table[table["name"].duplicated(keep=False)].sort_values("name")
    if len(repeated):
        shown = [
            f"{one} ({its})" for one, its in zip(repeated.condition, repeated.set, strict=True)
        ]
        raise InputError(
            f"{path} names a perturbation more than once: {listed(shown)}; give each one line "
            "(A+B and B+A are the same)."
        )
    unknown = sorted(set(table["name"]) - set(perturbations))
    missing = sorted(set(perturbations) - set(table["name"]))
    if unknown or missing:
        parts = [f"names {listed(unknown)}, which the screen lacks"] if unknown else []
        parts += [f"lacks {listed(missing)} of the screen"] if missing else []
        raise InputError(
            f"{path} {' and '.join(parts)}; expected one line for each of its "
            f"{len(perturbations)} perturbations."
        )
    if "train" not in set(table["set"]):
        raise InputError(f"{path} puts no perturbation into train; expected at least one.")
    set_of = dict(zip(table["name"], table["set"], strict=True))
    return {name: [one for one in perturbations if set_of[one] == name] for name in SETS}


def custom(perturbations: list[str], split: Split) -> Drawn:
    """The sets of a table."""
    return read_custom(Path(split.path), perturbations), {}


SPLITS = {
    "simulation": simulation,
    "simulation_single": simulation_single,
    "single": single,
    "no_test": no_test,
    "combo_seen0": combo_seen0,
    "combo_seen1": combo_seen1,
    "combo_seen2": combo_seen2,
    "no_split": no_split,
    "k_fold": k_fold,
    "custom": custom,
}


def draw_controls(screen: Screen, seed: int) -> dict[str, str]:
    """Keep half of the control cells for scoring: cell -> model or scoring, sorted by cell.

    Cells take turns in a drawn order within each batch, so halves of batches differ by one cell at
    most. Models and scores that share control cells share their noise, which looks like skill.
    """
    rows = rows_of(screen, [CONTROL])
    if len(rows) < 2:
        raise InputError(
            f"{screen.path} has {len(rows)} control cells; expected at least 2, half of them are "
            "for models and half for scoring."
        )
    rows = rows[np.argsort(screen.cells[rows])]
    drawn = np.random.default_rng(seed).random(len(rows))
    order = np.lexsort((drawn, screen.batch[rows], screen.cell_type[rows]))
    use = np.empty(len(rows), dtype=object)
    use[order] = [USES[turn % 2] for turn in range(len(rows))]
    return dict(zip(screen.cells[rows].tolist(), use, strict=True))


def rows_of(screen: Screen, conditions: Iterable[str]) -> np.ndarray:
    """Rows of all cells of some conditions, in row order."""
    conditions = list(conditions)
    unknown = sorted(set(conditions) - set(screen.condition))
    if unknown:
        raise InputError(f"{screen.path} has no cells of {listed(unknown)}; was it made anew?")
    return np.flatnonzero(np.isin(screen.condition, conditions))


def control_rows(screen: Screen, controls: dict[str, str], use: str) -> np.ndarray:
    """Rows of the control cells of one use ("model" or "scoring"), in row order."""
    assert use in USES
    rows = rows_of(screen, [CONTROL])
    if set(screen.cells[rows]) != set(controls):
        raise InputError(
            f"The table of controls names {len(controls)} cells, which are not the {len(rows)} "
            f"control cells of {screen.path}; rerun pair_controls."
        )
    return rows[[controls[cell] == use for cell in screen.cells[rows]]]


def training_rows(screen: Screen, split: SplitTable, controls: dict[str, str]) -> np.ndarray:
    """Rows that a model may learn from: perturbed cells of train, and the model's controls."""
    unsplit = sorted(set(screen.condition) - set(split.sets))
    if unsplit:
        raise InputError(
            f"{screen.path} has {listed(unsplit)}, which the split lacks; "
            "rerun split_perturbations."
        )
    perturbed = rows_of(screen, split.conditions("train"))
    return np.sort(np.concatenate([perturbed, control_rows(screen, controls, "model")]))


def gears_lists(split: SplitTable) -> dict[str, list[str]]:
    """The dictionary that GEARS pickles: the conditions of each set, "ctrl" in train."""
    return {name: [one for one, its in split.sets.items() if its == name] for name in SETS}


def split_digest(split: SplitTable, controls: dict[str, str]) -> str:
    """Hash who is held out; a model carries it, so that it is never tested on what it has seen."""
    return digest([split.sets, controls])


def check_same_split(path: Path, found: str, split: SplitTable, controls: dict[str, str]) -> None:
    """Refuse a model, or predictions, of another split: its test set may have been trained on."""
    expected = split_digest(split, controls)
    if found != expected:
        raise InputError(
            f"{path} belongs to split {found}, but the given tables are split {expected}; what is "
            "held out here may have been trained on there. Give the split it was made with."
        )


def write_split(path: Path, split: SplitTable) -> None:
    columns = {"set": split.sets, "subgroup": split.subgroup, "num_cells": split.num_cells}
    table = pd.DataFrame(columns).rename_axis("condition").sort_index()
    with writing(path) as partial:
        table.to_csv(partial, sep="\t")


def read_split(path: Path) -> SplitTable:
    table = _read_tsv(
        path,
        ["condition", "set", "subgroup", "num_cells"],
        "the split table that split_perturbations writes",
    ).set_index("condition")
    sizes = {one: int(count) for one, count in table["num_cells"].items()}
    return SplitTable(table["set"].to_dict(), table["subgroup"].to_dict(), sizes)


def write_controls(path: Path, controls: dict[str, str]) -> None:
    table = pd.DataFrame({"cell": list(controls), "use": list(controls.values())})
    with writing(path) as partial:
        table.to_csv(partial, sep="\t", index=False)


def read_controls(path: Path) -> dict[str, str]:
    """Read cell -> model or scoring."""
    table = _read_tsv(path, ["cell", "use"], "the controls that pair_controls writes")
    return dict(zip(table["cell"], table["use"], strict=True))


def _read_tsv(path: Path, columns: list[str], what: str) -> pd.DataFrame:
    try:
        # "NA" is a sodium channel or a cell's name before it is a missing value.
        table = pd.read_csv(existing(path, what), sep="\t", dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TSV ({error}); expected {what}.") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"{path} has no column {listed(missing)}; its columns are {listed(table.columns)}. "
            f"Expected {what}, separated by tabs."
        )
    return table
