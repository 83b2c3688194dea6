"""Which obs column names the perturbed gene of a cell, and which of its labels is the control.

Only what is unmistakable is taken: one column with one label that has a usual name of controls,
beside measured genes, and no other column of measured genes that says something else. Everything
else is an error with settings to choose from.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import yaml

from vcpipe.config.datasets import Columns
from vcpipe.data.counts import Counts, column, is_missing
from vcpipe.data.labels import (
    condition_of,
    control_labels,
    is_control_name,
    is_left_out,
    known_ways,
    spelling,
    target_of,
)
from vcpipe.data.screen import CONTROL
from vcpipe.errors import InputError, listed

# Under one of these names one measured gene is enough, under another every second label must be
# one; of two columns that say the same of every cell, the one that stands first here is read.
USUAL_KEYS = (
    *("targetgene", "targetgenes", "genetarget", "target", "gene", "genes", "genesymbol"),
    *("perturbation", "perturbations", "perturbedgene", "perturbationname", "pert", "pertname"),
    *("guidetarget", "guideidentity", "guideids", "guideid", "guide", "sgrna", "grna"),
    *("featurecall", "condition", "treatment", "genotype"),
)
# How guides are named after their genes: STAT1_pDS123, STAT1-2.
GUIDE_PATTERNS = ("([^_]+)_.*", r"(.+)-\d+")


@dataclass(frozen=True)
class Candidate:
    """An obs column, read with certain settings, that may hold the perturbed genes."""

    dataset: Columns  # perturbation_key and control_label as they would be
    controls: dict[str, int]  # control label -> cells
    num_targets: int  # labels that are no control
    num_measured: int  # targets that are measured genes or combinations of these

    @property
    def holds_genes(self) -> bool:
        usual = _rank(self.dataset.perturbation_key) < len(USUAL_KEYS)
        return self.num_measured > 0 and (usual or 2 * self.num_measured >= self.num_targets)

    @property
    def is_plausible(self) -> bool:
        return bool(self.controls) and self.holds_genes


def resolved(counts: Counts, name: str, dataset: Columns) -> Columns:
    """The dataset with perturbation_key and control_label filled in where they are null.

    A label that is given is not judged here; label_checks says what is wrong with it.
    """
    if None not in (dataset.perturbation_key, dataset.control_label):
        return dataset
    genes = set(counts.genes)
    if dataset.perturbation_key is not None:
        column(counts.obs, dataset.perturbation_key, name, "obs", "perturbation_key")
        found = [_candidate(counts, dataset.perturbation_key, dataset, genes)]
        if not found[0].controls:
            return dataset
    else:
        found = _candidates(counts, dataset, genes)
        if not found and dataset.control_label is not None:
            # A misspelt control_label is best said beside the labels of the column it is not in.
            found = _candidates(counts, dataset.model_copy(update={"control_label": None}), genes)
    if not found:
        raise InputError(_none_found(counts, name, dataset, genes))
    best = found[0]
    if not all(_same_conditions(counts, best, other, genes) for other in found[1:]):
        raise InputError(
            f"Dataset {name!r} has {len(found)} obs columns that may hold the perturbed genes. "
            f"Set one of:{_proposals(name, found)}"
        )
    given = dataset.control_label
    if given is None and len(best.controls) > 1:
        raise InputError(
            f"Dataset {name!r} has {len(best.controls)} labels in "
            f"{best.dataset.perturbation_key!r} that look like controls. Set one of:"
            f"{_proposals(name, [best])}"
        )
    control = given if given is not None else best.dataset.control_label
    return best.dataset.model_copy(update={"control_label": control})


def _candidates(counts: Counts, dataset: Columns, genes: set[str]) -> list[Candidate]:
    """The plausible columns, those with usual names first, and what may be meant instead."""
    keys = [
        key
        for key, values in counts.obs.items()
        # Names and barcodes, one for each cell, are not worth the time.
        if not pd.api.types.is_numeric_dtype(values) and values.nunique() < len(values)
    ]
    made = [_candidate(counts, key, dataset, genes) for key in sorted(keys, key=_rank)]
    plausible = [candidate for candidate in made if candidate.is_plausible]
    if not plausible or dataset.control_label is not None:
        return plausible
    # If controls are called sgLuc there, the plausible column may be that of a treatment.
    return plausible + [each for each in made if each.holds_genes and not each.controls]


def _rank(key: str) -> int:
    place = spelling(str(key))
    return USUAL_KEYS.index(place) if place in USUAL_KEYS else len(USUAL_KEYS)


def _candidate(counts: Counts, key: str, dataset: Columns, genes: set[str]) -> Candidate:
    controls: dict[str, int] = {}
    targets = []
    for label, size in _sizes(counts.obs[key]).items():
        if is_left_out(label, dataset):
            continue
        names = [one for one in (target_of(label, dataset), label) if one is not None]
        if names[0] in genes:
            names = names[:1]  # a guide of the gene CTRL, CTRL_1, is no numbered control
        control = next((one for one in names if _may_be_control(one, dataset, genes)), None)
        if control is None:
            targets.append(names[0])
        else:
            controls[control] = controls.get(control, 0) + size
    label = dataset.control_label
    if label is None and controls:
        label = list(controls) if len(controls) > 1 else next(iter(controls))
    read = dataset.model_copy(update={"perturbation_key": key, "control_label": label})
    measured = [one for one in targets if next(known_ways(one, read, genes), None) is not None]
    return Candidate(read, controls, len(targets), len(measured))


def _sizes(values: pd.Series) -> dict[str, int]:
    """How many cells have each label; missing labels, which are refused later, are left out."""
    sizes = values.value_counts()
    sizes = sizes[(sizes > 0) & ~is_missing(sizes.index.to_series())]
    return {str(label): int(size) for label, size in sizes.sort_index().items()}


def _may_be_control(label: str, dataset: Columns, genes: set[str]) -> bool:
    given = control_labels(dataset)
    return label in given if given else is_control_name(label) and label not in genes


def _same_conditions(counts: Counts, one: Candidate, other: Candidate, genes: set[str]) -> bool:
    """Whether two columns say the same of every cell; one that can't be read does not."""
    try:
        first = _conditions(counts, one.dataset, genes)
        if not other.controls:
            other = _with_controls_of(first, counts, other, genes)
        second = _conditions(counts, other.dataset, genes)
    except InputError:
        return False
    return np.array_equal(first, second)


def _with_controls_of(
    condition: np.ndarray, counts: Counts, candidate: Candidate, genes: set[str]
) -> Candidate:
    """A column whose control is the one label, no gene, that it has in another's control cells."""
    labels = counts.obs[candidate.dataset.perturbation_key].astype(str)
    beside = [label for label in labels[condition == CONTROL].unique() if label not in genes]
    if len(beside) != 1:
        return candidate
    dataset = candidate.dataset.model_copy(update={"control_label": beside[0]})
    return replace(candidate, dataset=dataset)


def _conditions(counts: Counts, dataset: Columns, genes: set[str]) -> np.ndarray:
    labels = counts.obs[dataset.perturbation_key].astype(str)
    condition = {label: condition_of(label, dataset, genes) for label in labels.unique()}
    return labels.map(condition).to_numpy(dtype=str)


def _none_found(counts: Counts, name: str, dataset: Columns, genes: set[str]) -> str:
    near = _near(counts, dataset, genes)
    message = (
        f"Dataset {name!r} has no obs column with a usual name of controls (non-targeting, NT, "
        f"control, ...) beside measured genes; its columns are {listed(counts.obs, 30) or 'none'}. "
        f"Set datasets.{name}.perturbation_key and datasets.{name}.control_label"
    )
    if not near:
        return f"{message}."
    message += f", e.g. one of:{_proposals(name, near)}"
    if not any(candidate.num_measured for candidate in near):
        columns = listed(counts.var) or "none"
        message += f"\n  Are the genes named by another var column ({columns})? Set gene_name_key."
    return message


def _near(counts: Counts, dataset: Columns, genes: set[str]) -> list[Candidate]:
    """What would be plausible with a pattern of guides, or with less of the evidence."""
    genes = {gene for gene in genes if not is_control_name(gene)}
    given = dataset.target_pattern
    patterns = [None, *GUIDE_PATTERNS] if given is None else [given]
    found = [
        candidate
        for pattern in patterns
        for candidate in _candidates(
            counts, dataset.model_copy(update={"target_pattern": pattern}), genes
        )
    ]
    if not found:
        usual = [key for key in counts.obs if _rank(key) < len(USUAL_KEYS)]
        found = [_candidate(counts, key, dataset, genes) for key in sorted(usual, key=_rank)]
    first = {each.dataset.perturbation_key: each for each in reversed(found) if each.controls}
    return list(reversed(first.values()))


def _proposals(name: str, candidates: list[Candidate]) -> str:
    """A line of settings for each candidate, and for each of its controls if these are few."""
    lines = []
    for candidate in candidates:
        dataset, controls = candidate.dataset, list(candidate.controls)
        changes = [{}]
        if 1 < len(controls) <= 5:
            changes += [
                {
                    "control_label": control,
                    "drop_labels": dataset.drop_labels
                    + [one for one in controls if one != control],
                }
                for control in controls
            ]
        lines += [
            _proposal(name, candidate, dataset.model_copy(update=change)) for change in changes
        ]
    return "".join(f"\n  {line}" for line in lines)


def _proposal(name: str, candidate: Candidate, dataset: Columns) -> str:
    keys = ("perturbation_key", "target_pattern", "control_label", "drop_labels")
    settings = [
        as_setting(name, key, getattr(dataset, key)) for key in keys if getattr(dataset, key)
    ]
    cells = sum(candidate.controls.get(label, 0) for label in control_labels(dataset))
    numbers = f"{candidate.num_targets + len(candidate.controls)} labels, {cells} control cells"
    if not candidate.controls:
        numbers += f" known: set datasets.{name}.control_label too"
    if candidate.num_measured < candidate.num_targets:
        numbers += f", {candidate.num_measured} of {candidate.num_targets} targets measured"
    return f"{', '.join(settings)} ({numbers})"


def as_setting(name: str, key: str, value: str | list[str]) -> str:
    """A setting to paste: as_setting("x", "drop_labels", ["*"]).

    >>> as_setting("x", "drop_labels", ["*", "multiplet"])
    "datasets.x.drop_labels: ['*', multiplet]"
    """
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return f"datasets.{name}.{key}: {text.splitlines()[0]}"
