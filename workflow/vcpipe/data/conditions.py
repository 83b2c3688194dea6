"""From a dataset's own labels to GEARS's conditions: "ctrl", "GENE+ctrl", "A+B"."""

import difflib
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcpipe.config.datasets import Columns
from vcpipe.data.counts import Counts, column, is_missing
from vcpipe.data.screen import CONTROL, perturbed_genes
from vcpipe.errors import InputError, listed

# How screens call their controls: non-targeting, NT_1, ctrl, control, scramble, safe-harbor, mock.
LIKELY_CONTROL = re.compile(r"(?i)non.?targ|control|ctrl|scramb|safe|mock|neg|^nt\b|^nt[_-]")


@dataclass(frozen=True)
class Labels:
    """The condition, cell type and batch of every cell, and which cells are kept."""

    condition: np.ndarray
    cell_type: np.ndarray
    batch: np.ndarray
    kept: np.ndarray  # bool
    unknown_targets: list[str]  # perturbed genes that were not measured
    dropped: dict[str, int]  # condition -> cells left out


def condition_of(label: str, control_label: str) -> str:
    """One label as a condition: condition_of("B+A", "non-targeting") gives "A+B".

    >>> [condition_of(label, "NT") for label in ("NT", "A", "ctrl+A", "A+NT", "B+A")]
    ['ctrl', 'A+ctrl', 'A+ctrl', 'A+ctrl', 'A+B']
    """
    if label in (control_label, CONTROL):
        return CONTROL
    genes = sorted(part for part in label.split("+") if part not in (control_label, CONTROL))
    if not genes:
        return CONTROL
    if "" in genes or len(genes) > 2 or len(set(genes)) < len(genes):
        raise InputError(
            f"Label {label!r} is no perturbation; expected a gene, or two different genes as A+B "
            "(GEARS knows no more)."
        )
    wrong = [gene for gene in genes if CONTROL in gene or "/" in gene]
    if wrong:
        # GEARS looks for "ctrl" anywhere in a condition; "/" would open a group inside the h5ad.
        raise InputError(
            f"Label {label!r} contains {CONTROL!r} or '/', which GEARS's files cannot hold in the "
            "name of a gene; rename it, or set control_label if these are the control cells."
        )
    return "+".join(genes) if len(genes) == 2 else f"{genes[0]}+{CONTROL}"


def read_labels(counts: Counts, name: str, dataset: Columns) -> Labels:
    """Check the labels of every cell and apply the dataset's policies to them."""
    condition = _conditions(counts, name, dataset)
    cell_type = _cell_types(counts, name, dataset)
    batch = _batches(counts, name, dataset)
    unknown = unknown_targets(condition, counts.genes)
    if unknown and dataset.unknown_targets == "error":
        raise InputError(
            f"{len(unknown)} perturbed genes of dataset {name!r} are not among its "
            f"{len(counts.genes)} genes: {', '.join(unknown)}. Rename them, or set "
            f"datasets.{name}.unknown_targets to keep or drop."
        )
    kept = np.ones(len(condition), dtype=bool)
    if dataset.unknown_targets == "drop":
        kept &= ~_perturbs(condition, unknown)
    kept &= ~_in_small_group(condition, cell_type, kept, name, dataset)
    _check_comparable(condition, cell_type, kept, name, dataset)
    dropped = pd.Series(condition[~kept]).value_counts().sort_index()
    return Labels(
        condition=condition,
        cell_type=cell_type,
        batch=batch,
        kept=kept,
        unknown_targets=unknown,
        dropped={key: int(count) for key, count in dropped.items()},
    )


def unknown_targets(condition: np.ndarray, genes: np.ndarray) -> list[str]:
    """The perturbed genes, sorted, that were not measured."""
    known = set(genes)
    targets = {gene for one in np.unique(condition) for gene in perturbed_genes(one)}
    return sorted(targets - known)


def _conditions(counts: Counts, name: str, dataset: Columns) -> np.ndarray:
    labels = column(counts.obs, dataset.perturbation_key, name, "obs", "perturbation_key")
    _refuse_missing(labels, counts, name, dataset.perturbation_key)
    labels = labels.astype(str)
    distinct = sorted(labels.unique())
    combined = sorted(set(counts.genes[np.char.find(counts.genes, "+") >= 0]) & set(distinct))
    if combined:
        raise InputError(
            f"Dataset {name!r} perturbs {listed(combined)}, names of measured genes that contain "
            "'+', which separates the two genes of a combination; rename these genes."
        )
    condition = {label: condition_of(label, dataset.control_label) for label in distinct}
    if CONTROL not in condition.values():
        likely = [label for label in distinct if LIKELY_CONTROL.search(label)]
        near = difflib.get_close_matches(dataset.control_label, distinct, n=1, cutoff=0.6)
        hint = f"; did you mean {(likely + near)[0]!r}?" if likely + near else "."
        others = [label for label in distinct if label not in likely]
        raise InputError(
            f"Dataset {name!r} has no control cells: no {dataset.perturbation_key} is "
            f"{dataset.control_label!r}{hint} Its labels are {listed(likely + others, 20)}. "
            f"Set datasets.{name}.control_label."
        )
    return labels.map(condition).to_numpy(dtype=str)


def _cell_types(counts: Counts, name: str, dataset: Columns) -> np.ndarray:
    if dataset.cell_type_key is None:
        return np.full(len(counts.cells), dataset.cell_type)
    values = column(counts.obs, dataset.cell_type_key, name, "obs", "cell_type_key")
    _refuse_missing(values, counts, name, dataset.cell_type_key)
    values = values.astype(str)
    wrong = [value for value in sorted(values.unique()) if "_" in value or "/" in value]
    if wrong:
        # scGPT splits "{cell_type}_{condition}_{dose}" at underscores.
        raise InputError(
            f"Dataset {name!r} has cell types with '_' or '/' in {dataset.cell_type_key!r}: "
            f"{listed(wrong)}. GEARS and scGPT split names there; rename them, "
            f"e.g. {wrong[0].replace('_', '-').replace('/', '-')!r}."
        )
    return values.to_numpy(dtype=str)


def _batches(counts: Counts, name: str, dataset: Columns) -> np.ndarray:
    if dataset.batch_key is None:
        return np.full(len(counts.cells), "batch0")
    values = column(counts.obs, dataset.batch_key, name, "obs", "batch_key")
    _refuse_missing(values, counts, name, dataset.batch_key)
    return values.astype(str).to_numpy(dtype=str)


def _refuse_missing(values: pd.Series, counts: Counts, name: str, key: str) -> None:
    cells = counts.cells[is_missing(values)]
    if len(cells):
        raise InputError(
            f"Dataset {name!r} has {len(cells)} cells without {key!r}: {listed(cells, 3)}. "
            "Label them, or remove them from the file; a missing label is no control."
        )


def _perturbs(condition: np.ndarray, genes: list[str]) -> np.ndarray:
    """True for cells in which one of the genes is perturbed."""
    hit = {one: bool(set(perturbed_genes(one)) & set(genes)) for one in np.unique(condition)}
    return pd.Series(condition).map(hit).to_numpy(dtype=bool)


def _in_small_group(
    condition: np.ndarray, cell_type: np.ndarray, kept: np.ndarray, name: str, dataset: Columns
) -> np.ndarray:
    """True for perturbed cells whose condition has too few cells in their cell type."""
    groups = pd.DataFrame({"condition": condition, "cell_type": cell_type})[kept]
    sizes = groups[groups.condition != CONTROL].value_counts().sort_index()
    small = sizes[sizes < dataset.min_cells]
    if len(small) and dataset.small_perturbations == "error":
        several = len(np.unique(cell_type)) > 1
        shown = [
            f"{key[0]} in {key[1]} ({count})" if several else f"{key[0]} ({count})"
            for key, count in small.items()
        ]
        raise InputError(
            f"{len(small)} perturbations of dataset {name!r} have fewer than {dataset.min_cells} "
            f"cells: {listed(shown, 20)}. Set datasets.{name}.small_perturbations to drop, or "
            "lower min_cells."
        )
    pairs = pd.MultiIndex.from_arrays([condition, cell_type])
    return pairs.isin(small.index) & kept


def _check_comparable(
    condition: np.ndarray, cell_type: np.ndarray, kept: np.ndarray, name: str, dataset: Columns
) -> None:
    """Every cell type with perturbed cells needs the two controls of a t-test."""
    if not (kept & (condition != CONTROL)).any():
        raise InputError(
            f"Dataset {name!r} has no perturbed cells left; its policies unknown_targets "
            f"({dataset.unknown_targets}) and small_perturbations ({dataset.small_perturbations}, "
            f"min_cells {dataset.min_cells}) dropped {np.count_nonzero(~kept)} cells. "
            f"Check datasets.{name}.perturbation_key and these policies."
        )
    for one in np.unique(cell_type[kept & (condition != CONTROL)]):
        controls = np.count_nonzero((cell_type == one) & (condition == CONTROL))
        if controls < 2:
            raise InputError(
                f"Dataset {name!r} has {controls} control cells ({dataset.control_label!r}) of "
                f"cell type '{one}'; expected at least 2, each perturbation is compared with the "
                "controls of its cell type. Remove this cell type, or check control_label."
            )
