"""Which perturbations a model may learn from: train, val, test, and the two halves of the controls.

How they are drawn is in split_methods.py, held_out_contexts.py and target_lists.py; here is what is
made, written and read.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.config.datasets import Columns
from vcpipe.config.splits import Split
from vcpipe.data.held_out_contexts import context_subgroup, sets_of_contexts
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
from vcpipe.data.target_lists import list_remarks, published
from vcpipe.errors import InputError, listed
from vcpipe.files import digest, existing, writing

SETS = ("train", "val", "test")
UNUSED = "unused"  # in no set: combinations of genes of two sets, in some of GEARS's methods
USES = ("model", "scoring")
CONTEXT_KEYS = ("cell_type", "batch")

Place = tuple[str, str]  # condition, context; "" where whole conditions are split


@dataclass(frozen=True)
class SplitTable:
    """The set and the subgroup of every condition, the control included.

    Where contexts are held out, of every condition in each of them: one may be train and test.
    """

    sets: dict[Place, str]  # train, val, test, unused
    subgroup: dict[Place, str]  # unseen_single, combo_seen0, ..., train, control
    num_cells: dict[Place, int]
    context_key: str = ""  # one of CONTEXT_KEYS where contexts are held out

    def conditions(self, set_name: str) -> list[str]:
        """The perturbations with cells in a set, without the control."""
        found = [one for (one, _), its in self.sets.items() if its == set_name]
        return [one for one in dict.fromkeys(found) if one != CONTROL]

    def divided_conditions(self) -> list[str]:
        """The perturbations with cells in more than one set."""
        num_sets = Counter(one for one, _ in {(one, its) for (one, _), its in self.sets.items()})
        return sorted(one for one, number in num_sets.items() if number > 1 and one != CONTROL)


def draw_split(screen: Screen, split: Split) -> tuple[SplitTable, dict[str, Subgroups]]:
    """Draw or read a split of the screen's perturbations; also GEARS's subgroup dictionaries."""
    if split.context_key:
        return _split_of_contexts(screen, split), {}
    conditions = list(pd.unique(screen.condition))
    perturbations = [one for one in conditions if one != CONTROL]
    sets, subgroups = SPLITS[split.method](perturbations, split)
    set_of = dict.fromkeys(perturbations, UNUSED) | {CONTROL: "train"}
    set_of |= {one: name for name, members in sets.items() for one in members}
    subgroup = {one: _subgroup(one, set_of[one], sets["train"]) for one in conditions}
    # GEARS counts genes of val as seen by test.
    subgroup |= {one: kind for part in subgroups.values() for kind in part for one in part[kind]}
    num_cells = dict(Counter(places_of(screen, "")))
    sets = {place: set_of[place[0]] for place in num_cells}
    subgroup = {place: subgroup[place[0]] for place in num_cells}
    return SplitTable(sets, subgroup, num_cells), subgroups


def _split_of_contexts(screen: Screen, split: Split) -> SplitTable:
    """Every condition has the set of its context, the control too."""
    set_of = sets_of_contexts(screen, split)
    num_cells = dict(Counter(places_of(screen, split.context_key)))
    sets = {place: set_of[place[1]] for place in num_cells}
    train = {one for (one, _), its in sets.items() if its == "train"}
    subgroup = {place: context_subgroup(place[0], its, train) for place, its in sets.items()}
    return SplitTable(sets, subgroup, num_cells, split.context_key)


def places_of(screen: Screen, context_key: str) -> list[Place]:
    """Condition and context of every cell."""
    context = getattr(screen, context_key).tolist() if context_key else [""] * len(screen.cells)
    return list(zip(screen.condition.tolist(), context, strict=True))


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
    "published": published,
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
    """Rows that a model may learn from: perturbed cells of train, and the model's controls.

    Of a held-out context nothing is learned, its controls included.
    """
    perturbed = perturbed_rows(screen, split, "train")
    beside = controls_of_set(screen, split, controls, "train", "model")
    return np.sort(np.concatenate([perturbed, beside]))


def perturbed_rows(screen: Screen, split: SplitTable, set_name: str) -> np.ndarray:
    """Rows of the perturbed cells of a set, in row order."""
    is_member = (sets_of_cells(screen, split) == set_name) & (screen.condition != CONTROL)
    return np.flatnonzero(is_member)


def controls_of_set(
    screen: Screen, split: SplitTable, controls: dict[str, str], set_name: str, use: str
) -> np.ndarray:
    """Rows of the control cells, of one use, that a set's perturbed cells are compared with.

    All sets share the controls, except where contexts are held out: each has those of its own.
    """
    rows = control_rows(screen, controls, use)
    if split.context_key:
        rows = rows[sets_of_cells(screen, split)[rows] == set_name]
    if not len(rows):
        raise InputError(
            f"{screen.path} has no control cells of use {use} beside the cells of {set_name}; "
            "rerun split_perturbations with other contexts."
        )
    return rows


def sets_of_cells(screen: Screen, split: SplitTable) -> np.ndarray:
    """The set of every cell, in row order."""
    places = places_of(screen, split.context_key)
    unsplit = sorted(set(places) - set(split.sets))
    if unsplit:
        raise InputError(
            f"{screen.path} has {listed(map(_shown, unsplit))}, which the split lacks; "
            "rerun split_perturbations."
        )
    gone = sorted(set(split.sets) - set(places))
    if gone:
        raise InputError(
            f"{screen.path} has no cells of {listed(map(_shown, gone))}; was it made anew?"
        )
    return np.array([split.sets[place] for place in places])


def _shown(place: Place) -> str:
    condition, context = place
    return f"{condition} in {context}" if context else condition


def gears_lists(split: SplitTable) -> dict[str, list[str]]:
    """The dictionary that GEARS pickles: the conditions of each set, "ctrl" in train.

    GEARS knows whole conditions only: one with cells in two sets is in no list.
    """
    divided = set(split.divided_conditions())
    set_of = {one: its for (one, _), its in split.sets.items() if one not in divided}
    set_of[CONTROL] = "train"
    return {name: [one for one, its in set_of.items() if its == name] for name in SETS}


def remarks(split: Split, table: SplitTable) -> list[str]:
    """What is to be known about a split besides its table."""
    num_cells = Counter()
    for (condition, _), number in table.num_cells.items():
        num_cells[condition] += number
    divided = table.divided_conditions()
    found = list_remarks(split, num_cells)
    if divided:
        found.append(
            f"GEARS lists whole conditions; {len(divided)} with cells in two sets are in none of "
            f"its lists: {listed(divided)}"
        )
    return found


def split_digest(split: SplitTable, controls: dict[str, str]) -> str:
    """Hash who is held out; a model carries it, so that it is never tested on what it has seen."""
    sets = sorted([*place, its] for place, its in split.sets.items())
    return digest([split.context_key, sets, controls])


def check_same_split(path: Path, found: str, split: SplitTable, controls: dict[str, str]) -> None:
    """Refuse a model, or predictions, of another split: its test set may have been trained on."""
    expected = split_digest(split, controls)
    if found != expected:
        raise InputError(
            f"{path} belongs to split {found}, but the given tables are split {expected}; what is "
            "held out here may have been trained on there. Give the split it was made with."
        )


def write_split(path: Path, split: SplitTable) -> None:
    rows = [
        (*place, its, split.subgroup[place], split.num_cells[place])
        for place, its in sorted(split.sets.items())
    ]
    columns = ["condition", split.context_key, "set", "subgroup", "num_cells"]
    table = pd.DataFrame(rows, columns=columns)
    with writing(path) as partial:
        table.to_csv(partial, sep="\t", index=False, columns=[name for name in columns if name])


def read_split(path: Path) -> SplitTable:
    table = _read_tsv(
        path,
        ["condition", "set", "subgroup", "num_cells"],
        "the split table that split_perturbations writes",
    )
    context_key = next((key for key in CONTEXT_KEYS if key in table), "")
    context = table[context_key] if context_key else [""] * len(table)
    places = list(zip(table["condition"], context, strict=True))
    sets, subgroup, num_cells = (
        dict(zip(places, table[name], strict=True)) for name in ("set", "subgroup", "num_cells")
    )
    num_cells = {place: int(number) for place, number in num_cells.items()}
    return SplitTable(sets, subgroup, num_cells, context_key)


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
