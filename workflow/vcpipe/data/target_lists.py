"""Target genes that a challenge publishes: as held out, or to be predicted, cell by cell."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vcpipe.config.datasets import Columns
from vcpipe.config.splits import Split
from vcpipe.data.labels import condition_of, is_control_name
from vcpipe.data.screen import CONTROL
from vcpipe.data.split_methods import Drawn
from vcpipe.errors import InputError, listed
from vcpipe.files import existing

NAME_COLUMNS = ("target_gene", "condition")
WHAT = "target genes: a CSV or TSV with a column target_gene or condition, or one gene a line"
TO_PREDICT = "columns target_gene (or condition), n_cells and, if known, median_umi_per_cell"


@dataclass(frozen=True)
class Target:
    """A perturbation, and how many of its cells are asked for."""

    condition: str
    num_cells: int
    median_counts: float | None = None  # of one cell, where a list says so


def published(perturbations: list[str], split: Split) -> Drawn:
    """Listed targets are test and val, all other perturbations train."""
    lists = lists_of(split)
    targets = {name: read_targets(path) for name, path in lists.items()}
    both = sorted(set.intersection(*map(set, targets.values()))) if len(targets) > 1 else []
    if both:
        raise InputError(
            f"{lists['test']} and {lists['val']} both name {listed(both)}; expected a target on "
            "one list at most."
        )
    sets = {"train": [], "val": [], "test": []}
    for name, path in lists.items():
        absent = sorted(set(targets[name]) - set(perturbations))
        if absent and split.absent_targets == "error":
            raise InputError(
                f"{path} names {listed(absent)}, which the converted screen lacks (conversion.json "
                "says what was dropped); correct the list, or set absent_targets: ignore."
            )
        sets[name] = [one for one in perturbations if one in targets[name]]
        if not sets[name]:
            raise InputError(
                f"{path} names {len(targets[name])} targets, and the screen has none of them; "
                f"leave out {name}_list, or check the names."
            )
    sets["train"] = [one for one in perturbations if one not in {*sets["val"], *sets["test"]}]
    if not sets["train"]:
        raise InputError(
            f"{listed(lists.values())} leave train empty: all {len(perturbations)} perturbations "
            "of the screen are listed; expected at least one that is not."
        )
    return sets, {}


def lists_of(split: Split) -> dict[str, Path]:
    """The list of each set that has one."""
    paths = {"val": split.val_list, "test": split.test_list}
    return {name: Path(path) for name, path in paths.items() if path}


def read_targets(path: Path) -> dict[str, str | None]:
    """Condition -> n_cells as it stands in the file, None where it does not say."""
    lines, reader = _table(path)
    columns = reader.fieldnames or []
    column = next((name for name in NAME_COLUMNS if name in columns), None)
    if column:
        rows = list(reader)
    elif len(columns) == 1:
        column = "target_gene"
        rows = [{column: line} for line in lines]
    else:
        raise InputError(f"{path} begins with {_first(lines)!r}; expected {WHAT}.")
    rows = _by_condition(path, rows, column, "controls are always in train")
    return {condition: row.get("n_cells") for condition, row in rows.items()}


def read_target_list(path: Path) -> list[Target]:
    """The targets to predict and how many cells of each, in the order of the file."""
    lines, reader = _table(path)
    columns = reader.fieldnames or []
    column = next((name for name in NAME_COLUMNS if name in columns), None)
    if column is None or "n_cells" not in columns:
        raise InputError(
            f"{path} begins with {_first(lines)!r}; expected {TO_PREDICT}, as in the Virtual Cell "
            "Challenge's pert_counts_*.csv."
        )
    rows = _by_condition(path, reader, column, "its cells are not predicted")
    if not rows:
        raise InputError(f"{path} lists no target; expected {TO_PREDICT}, one target a line.")
    return [
        Target(condition, _num_cells(path, condition, row), _median(path, condition, row))
        for condition, row in rows.items()
    ]


def _table(path: Path) -> tuple[list[str], csv.DictReader]:
    """The lines of a list that are not blank, and a reader of them as a table."""
    try:
        lines = existing(path, WHAT).read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path} is no text in UTF-8 ({error}); expected {WHAT}.") from error
    lines = [line for line in lines if line.strip()]
    return lines, csv.DictReader(lines, delimiter="\t" if "\t" in _first(lines) else ",")


def _first(lines: list[str]) -> str:
    return lines[0] if lines else ""


def _by_condition(path: Path, rows: Iterable[dict], column: str, why_no_control: str) -> dict:
    found = {}
    for row in rows:
        label = (row[column] or "").strip()
        condition = condition_of(label, Columns())
        if condition in found:
            raise InputError(f"{path} names {condition} twice; leave one out.")
        if condition == CONTROL or is_control_name(label):
            raise InputError(f"{path} names {label}; leave it out: {why_no_control}.")
        found[condition] = row
    return found


def _num_cells(path: Path, condition: str, row: dict) -> int:
    text = (row["n_cells"] or "").strip()
    if not text.isdecimal() or int(text) < 1:
        raise InputError(
            f"{path} has n_cells {text!r} for {condition}; expected a whole number, 1 or more. "
            "Leave a target out that needs no cells."
        )
    return int(text)


def _median(path: Path, condition: str, row: dict) -> float | None:
    text = (row.get("median_umi_per_cell") or "").strip()
    if not text:
        return None
    try:
        median = float(text)
    except ValueError:
        median = math.nan
    if not 0 < median < math.inf:
        raise InputError(
            f"{path} has median_umi_per_cell {text!r} for {condition}; expected a number above 0."
        )
    return median


def list_remarks(split: Split, num_cells: dict[str, int]) -> list[str]:
    """What differs between the lists and the screen: absent targets, and numbers of cells."""
    remarks = []
    for path in lists_of(split).values():
        targets = read_targets(path)
        absent = sorted(set(targets) - set(num_cells))
        if absent:
            remarks.append(f"{path}: ignored, the screen lacks them: {listed(absent)}")
        differing = [
            f"{one} ({expected}, here {num_cells[one]})"
            for one, expected in targets.items()
            if one in num_cells and expected not in (None, str(num_cells[one]))
        ]
        if differing:
            remarks.append(f"{path}: other numbers of cells in the screen: {listed(differing)}")
    return remarks
