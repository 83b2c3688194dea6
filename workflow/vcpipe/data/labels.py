"""One label of a screen as a GEARS condition: "ctrl", "GENE+ctrl" or "A+B"."""

import re
from collections.abc import Callable, Collection, Iterator
from itertools import islice

from vcpipe.config.datasets import Columns
from vcpipe.data.screen import CONTROL
from vcpipe.errors import InputError

LEFT_OUT = ""  # the condition of a cell whose label is in drop_labels

# Each means control by itself or before "control"; "negative" does so only before it, since cells
# without a guide are called negative, too. Of all these names only CTRL is also a gene's.
KINDS = (
    *("nontarget", "nontargeting", "nontargetting", "notarget", "nt", "ntc", "scramble"),
    *("scrambled", "safe", "safetargeting", "safeharbor", "safeharbour", "intergenic", "mock"),
    *("emptyvector", "vehicle", "dmso", "untreated", "unperturbed", "wildtype", "wt"),
)
CONTROLS = ("control", "controls", "ctrl", "ctrls", "ctl")
NAMES = (
    *(kind + control for kind in (*KINDS, "neg", "negative", "") for control in CONTROLS),
    *KINDS,
)
CONTROL_NAME = re.compile(f"(?:(?:sg)?(?:{'|'.join(NAMES)})(?:s?grnas?|guides?)?)+")
# Of NT_1 or NegCtrl10; but NT5 and WT1 are no numbered controls.
NUMBER = re.compile(r"(?<=[\W_])\d+|(?<=[^\W\d_]{4})\d+")


def spelling(label: str) -> str:
    """A label without case and signs: spelling("Non-Targeting") gives "nontargeting"."""
    return re.sub(r"[\W_]+", "", label).casefold()


def is_control_name(label: str) -> bool:
    """Whether this is a usual name of controls, numbered or several times over.

    >>> [is_control_name(label) for label in ("Non-Targeting", "NT_1", "NegCtrl0_NegCtrl3", "NTS")]
    [True, True, True, False]
    """
    return CONTROL_NAME.fullmatch(spelling(NUMBER.sub("", label))) is not None


def holds_control_name(label: str) -> bool:
    """Whether a usual name of controls stands anywhere in a label; enough for a hint, no more.

    >>> [holds_control_name(label) for label in ("my_nontargeting_x", "NT_1", "parental")]
    [True, True, False]
    """
    # The short ones are parts of other words by chance: nt of parental.
    long = [name for name in NAMES if len(name) > 3]
    return is_control_name(label) or any(name in spelling(label) for name in long)


def control_labels(dataset: Columns) -> list[str]:
    """control_label as a list, empty where it is to be found."""
    given = dataset.control_label
    return given if isinstance(given, list) else [label for label in (given,) if label is not None]


def target_of(label: str, dataset: Columns) -> str | None:
    """The part of a label that says what was perturbed; nothing where target_pattern fails."""
    if dataset.target_pattern is None or label in (*control_labels(dataset), *dataset.drop_labels):
        return label
    match = re.fullmatch(dataset.target_pattern, label)
    return (match[1] or None) if match else None


def is_left_out(label: str, dataset: Columns) -> bool:
    """Whether drop_labels names a label, or the part that target_pattern takes of it."""
    return label in dataset.drop_labels or target_of(label, dataset) in dataset.drop_labels


def parts_of(target: str, dataset: Columns, genes: Collection[str]) -> list[str]:
    """The genes and controls that a target joins; a gene's own name may hold the separator.

    >>> parts_of("MT_ND1_TP53", Columns(combination_separator="_"), {"MT_ND1", "TP53"})
    ['MT_ND1', 'TP53']
    """
    ways = list(islice(known_ways(target, dataset, genes), 2))
    if len(ways) > 1:
        first, second = (" and ".join(way) for way in ways)
        raise InputError(
            f"Label {target!r} can be cut at {dataset.combination_separator!r} into {first}, or "
            f"into {second}, and all of these were measured; rename it in the file, or name it "
            "in drop_labels."
        )
    return ways[0] if ways else target.split(dataset.combination_separator)


def known_ways(target: str, dataset: Columns, genes: Collection[str]) -> Iterator[list[str]]:
    """Every way to read a target as measured genes and controls; as a whole, if it is one."""
    controls = {*control_labels(dataset), CONTROL}
    if target in genes or target in controls:
        return iter([[target]])
    separator = dataset.combination_separator
    return cuts(target, separator, lambda part: part in genes or part in controls)


def cuts(target: str, separator: str, known: Callable[[str], bool]) -> Iterator[list[str]]:
    """Every way to cut a target at separators into two or more known parts."""
    place = target.find(separator)
    while place >= 0:
        first, rest = target[:place], target[place + len(separator) :]
        if known(first):
            if known(rest):
                yield [first, rest]
            for others in cuts(rest, separator, known):
                yield [first, *others]
        place = target.find(separator, place + 1)


def condition_of(label: str, dataset: Columns, genes: Collection[str] = ()) -> str:
    """One label as a condition; one that drop_labels names is LEFT_OUT.

    >>> dataset = Columns(control_label="NT")
    >>> [condition_of(label, dataset) for label in ("NT", "A", "ctrl+A", "A+NT", "B+A")]
    ['ctrl', 'A+ctrl', 'A+ctrl', 'A+ctrl', 'A+B']
    """
    if is_left_out(label, dataset):
        return LEFT_OUT
    target = target_of(label, dataset)
    if target is None:
        raise InputError(
            f"Label {label!r} does not match target_pattern {dataset.target_pattern!r} as a whole; "
            "change the pattern, or name the label in control_label or drop_labels."
        )
    controls = {*control_labels(dataset), CONTROL}
    genes = sorted(part for part in parts_of(target, dataset, genes) if part not in controls)
    if not genes:
        return CONTROL
    if "" in genes or len(genes) > 2 or len(set(genes)) < len(genes):
        raise InputError(
            f"Label {label!r} is no perturbation; expected a gene, or two different genes as "
            f"A{dataset.combination_separator}B (GEARS knows no more)."
        )
    if any("+" in gene for gene in genes):
        raise InputError(
            f"Label {label!r} contains '+', which joins the two genes of a GEARS condition; "
            "set combination_separator to '+' if it does so here, else rename the gene."
        )
    if any(CONTROL in gene or "/" in gene for gene in genes):
        # GEARS looks for "ctrl" anywhere in a condition; "/" would open a group inside the h5ad.
        raise InputError(
            f"Label {label!r} contains {CONTROL!r} or '/', which GEARS's files cannot hold in the "
            "name of a gene; rename it, or set control_label if these are the control cells."
        )
    return "+".join(genes) if len(genes) == 2 else f"{genes[0]}+{CONTROL}"
