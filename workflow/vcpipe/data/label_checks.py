"""What must not be among a screen's labels: controls under another name, combinations unsplit."""

import difflib

from vcpipe.config.datasets import Columns
from vcpipe.data.detection import as_setting
from vcpipe.data.labels import (
    control_labels,
    cuts,
    holds_control_name,
    is_control_name,
    is_left_out,
    known_ways,
    parts_of,
    spelling,
    target_of,
)
from vcpipe.data.screen import CONTROL
from vcpipe.errors import InputError, listed

SEPARATORS = "+_,;|&"  # what joins the genes of a combination; no hyphen: INS-IGF2 is a gene


def check_labels(sizes: dict[str, int], genes: set[str], name: str, dataset: Columns) -> None:
    """Refuse labels that would silently become something else; sizes: label -> cells."""
    written = {*sizes, *(target_of(label, dataset) for label in sizes)}
    _refuse_unused("drop_labels", dataset.drop_labels, written, sizes, name, dataset)
    sizes = {label: size for label, size in sizes.items() if not is_left_out(label, dataset)}
    _refuse_no_controls(sizes, genes, name, dataset)
    written |= {part for label in sizes for part in _parts(label, genes, dataset)}
    _refuse_unused("control_label", control_labels(dataset), written, sizes, name, dataset)
    _refuse_gene_called_control(sizes, genes, name, dataset)
    _refuse_other_controls(sizes, genes, name, dataset)
    _refuse_gene_with_plus(sizes, genes, name, dataset)
    _refuse_unsplit(sizes, genes, name, dataset)


def _refuse_no_controls(
    sizes: dict[str, int], genes: set[str], name: str, dataset: Columns
) -> None:
    controls = control_labels(dataset)
    if any(_is_control(label, genes, dataset) for label in sizes):
        return
    likely = [label for label in sizes if holds_control_name(label)]
    near = [
        one
        for control in controls
        for one in difflib.get_close_matches(control, sizes, n=1, cutoff=0.6)
    ]
    hint = f"; did you mean {(likely + near)[0]!r}?" if likely + near else "."
    others = [label for label in sizes if label not in likely]
    wanted = " or ".join(map(repr, controls)) or "a usual name of controls"
    raise InputError(
        f"Dataset {name!r} has no control cells: no {dataset.perturbation_key} is "
        f"{wanted}{hint} Its labels are {listed(likely + others, 20)}. "
        f"Set datasets.{name}.control_label."
    )


def _is_control(label: str, genes: set[str], dataset: Columns) -> bool:
    """Whether one of control_label is all there is in a label."""
    return {*control_labels(dataset)}.issuperset(_parts(label, genes, dataset))


def _parts(label: str, genes: set[str], dataset: Columns) -> list[str]:
    """What a label joins; a label that target_pattern does not match is refused later."""
    target = target_of(label, dataset)
    return [label] if target is None else parts_of(target, dataset, genes)


def _refuse_unused(
    key: str,
    given: list[str],
    written: set[str],
    sizes: dict[str, int],
    name: str,
    dataset: Columns,
) -> None:
    """A label that is named and that no cell has is likely another one misspelt."""
    unused = [label for label in given if label not in written]
    if unused:
        near = difflib.get_close_matches(unused[0], sizes, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"the labels are {listed(sizes, 20)}."
        raise InputError(
            f"datasets.{name}.{key} names {listed(unused)}, but no cell has this "
            f"{dataset.perturbation_key}; {hint} Correct it or leave it out."
        )


def _refuse_gene_called_control(
    sizes: dict[str, int], genes: set[str], name: str, dataset: Columns
) -> None:
    """Where a gene is called "ctrl", a label may mean it or controls; only people know which."""
    controls = control_labels(dataset)
    if CONTROL not in genes or CONTROL in controls:
        return
    unclear = [label for label in sizes if CONTROL in _parts(label, genes, dataset)]
    if unclear:
        shown = listed([f"{label!r} ({sizes[label]} cells)" for label in unclear], 20)
        raise InputError(
            f"Dataset {name!r} has labels in {dataset.perturbation_key!r} with {CONTROL!r}, "
            f"{shown}, which is a measured gene here and means control in GEARS's files. If it "
            f"means control, set {as_setting(name, 'control_label', [*controls, CONTROL])}; if the "
            "gene was perturbed, rename it in the file (labels and genes); to leave these cells "
            f"out, set {as_setting(name, 'drop_labels', [*dataset.drop_labels, *unclear])}."
        )


def _refuse_other_controls(
    sizes: dict[str, int], genes: set[str], name: str, dataset: Columns
) -> None:
    found = {label: _other_controls(label, genes, dataset) for label in sizes}
    others = [label for label in sizes if found[label]]
    if not others:
        return
    shown = listed([f"{label!r} ({sizes[label]} cells)" for label in others], 20)
    controls = control_labels(dataset)
    num_controls = sum(size for label, size in sizes.items() if _is_control(label, genes, dataset))
    every = list(dict.fromkeys([*controls, *(one for label in others for one in found[label])]))
    raise InputError(
        f"Dataset {name!r} has labels in {dataset.perturbation_key!r} that are called like "
        f"controls, {shown}, beside its control_label {listed(map(repr, controls))} "
        f"({num_controls} cells). If they are controls, set "
        f"{as_setting(name, 'control_label', every)}; to leave them out, set "
        f"{as_setting(name, 'drop_labels', [*dataset.drop_labels, *others])}."
    )


def _other_controls(label: str, genes: set[str], dataset: Columns) -> list[str]:
    """What in a label is called like a control and is none of the dataset's."""
    target, controls = target_of(label, dataset), {*control_labels(dataset)}
    if target is None or target in controls:
        return []
    parts = parts_of(target, dataset, genes)
    if len(parts) > 1 and {*controls, CONTROL}.issuperset(parts):
        return []
    spellings = {spelling(control) for control in controls} - {""}
    whole = [
        one
        for one in (target, label)
        if spelling(one) in spellings or (is_control_name(one) and one not in genes)
    ]
    inner = [
        part
        for part in parts
        if part not in {*controls, CONTROL} and part not in genes
        if spelling(part) in spellings or is_control_name(part)
    ]
    return whole[:1] or inner


def _refuse_gene_with_plus(
    sizes: dict[str, int], genes: set[str], name: str, dataset: Columns
) -> None:
    combined = sorted(
        gene
        for gene in genes.intersection(target_of(label, dataset) for label in sizes)
        if "+" in gene
    )
    if combined:
        raise InputError(
            f"Dataset {name!r} perturbs {listed(combined)}, names of measured genes that contain "
            "'+', which separates the two genes of a combination; rename these genes."
        )


def _refuse_unsplit(sizes: dict[str, int], genes: set[str], name: str, dataset: Columns) -> None:
    """A combination with another separator would be one gene that was not measured."""
    controls = {*control_labels(dataset), CONTROL}

    def known(part: str) -> bool:
        return part in genes or part in controls or is_control_name(part)

    read_as_one = [
        label
        for label in sizes
        if (target := target_of(label, dataset)) is not None
        if next(known_ways(target, dataset, genes), None) is None
    ]
    for separator in SEPARATORS.replace(dataset.combination_separator, ""):
        joined = [
            label for label in read_as_one if any(cuts(target_of(label, dataset), separator, known))
        ]
        if joined:
            raise InputError(
                f"Dataset {name!r} has {len(joined)} labels that join measured genes by "
                f"{separator!r}: {listed(joined)}. If they are combinations, set "
                f"{as_setting(name, 'combination_separator', separator)}; else rename them, or "
                "name them in drop_labels."
            )
