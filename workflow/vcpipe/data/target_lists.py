"""Target genes that a challenge publishes as held out, and the sets that follow from them."""

import csv
from pathlib import Path

from vcpipe.config.datasets import Columns
from vcpipe.config.splits import Split
from vcpipe.data.labels import condition_of
from vcpipe.data.screen import CONTROL
from vcpipe.data.split_methods import Drawn
from vcpipe.errors import InputError, listed
from vcpipe.files import existing

NAME_COLUMNS = ("target_gene", "condition")
WHAT = "target genes: a CSV or TSV with a column target_gene or condition, or one gene a line"


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
    try:
        lines = existing(path, WHAT).read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path} is no text in UTF-8 ({error}); expected {WHAT}.") from error
    lines = [line for line in lines if line.strip()]
    first = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter="\t" if "\t" in first else ",")
    columns = reader.fieldnames or []
    column = next((name for name in NAME_COLUMNS if name in columns), None)
    if column:
        rows = list(reader)
    elif len(columns) == 1:
        column = "target_gene"
        rows = [{column: line} for line in lines]
    else:
        raise InputError(f"{path} begins with {first!r}; expected {WHAT}.")
    targets = {}
    for row in rows:
        condition = condition_of((row[column] or "").strip(), Columns())
        if condition in targets:
            raise InputError(f"{path} names {condition} twice; leave one out.")
        if condition == CONTROL:
            raise InputError(f"{path} names {CONTROL}; leave it out: controls are always in train.")
        targets[condition] = row.get("n_cells")
    return targets


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
