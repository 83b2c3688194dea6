"""The condition, cell type and batch of every cell of a screen, checked, and which are kept."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcpipe.config.datasets import Columns
from vcpipe.data.counts import Counts, column, is_missing
from vcpipe.data.detection import resolved
from vcpipe.data.label_checks import check_labels
from vcpipe.data.labels import LEFT_OUT, condition_of
from vcpipe.data.screen import CONTROL, perturbed_genes
from vcpipe.errors import InputError, listed


@dataclass(frozen=True)
class Labels:
    """The condition, cell type and batch of every cell, and which cells are kept."""

    columns: Columns  # with perturbation_key and control_label
    detected: dict[str, str]  # those of the two that were found, not given
    condition: np.ndarray  # LEFT_OUT where drop_labels names the label
    cell_type: np.ndarray
    batch: np.ndarray
    kept: np.ndarray  # bool
    unknown_targets: list[str]  # perturbed genes that were not measured
    dropped: dict[str, int]  # condition -> cells left out
    dropped_labels: dict[str, int]  # label in drop_labels -> cells left out
    renamed_cell_types: dict[str, str]  # as it was -> as it is here


def read_labels(counts: Counts, name: str, dataset: Columns) -> Labels:
    """Check the labels of every cell and apply the dataset's policies to them."""
    given, dataset = dataset, resolved(counts, name, dataset)
    labels = _labels(counts, name, dataset)
    condition = _conditions(labels, counts, name, dataset)
    labelled = condition != LEFT_OUT
    cell_type, renamed = _cell_types(counts, labelled, name, dataset)
    batch = _batches(counts, labelled, name, dataset)
    unknown = unknown_targets(condition[labelled], counts.genes)
    if unknown and dataset.unknown_targets == "error":
        raise InputError(
            f"{len(unknown)} perturbed genes of dataset {name!r} are not among its "
            f"{len(counts.genes)} genes: {', '.join(unknown)}. Rename them, or set "
            f"datasets.{name}.unknown_targets to keep or drop.{_guide_hint(unknown, counts, name)}"
        )
    kept = labelled.copy()
    if dataset.unknown_targets == "drop":
        kept &= ~_perturbs(condition, unknown)
    kept &= ~_in_small_group(condition, cell_type, kept, name, dataset)
    _check_comparable(condition, cell_type, kept, name, dataset)
    return Labels(
        columns=dataset,
        detected={
            key: getattr(dataset, key)
            for key in ("perturbation_key", "control_label")
            if getattr(given, key) is None
        },
        condition=condition,
        cell_type=cell_type,
        batch=batch,
        kept=kept,
        unknown_targets=unknown,
        dropped=_sizes(condition[labelled & ~kept]),
        dropped_labels=_sizes(labels[~labelled]),
        renamed_cell_types=renamed,
    )


def _guide_hint(unknown: list[str], counts: Counts, name: str) -> str:
    """What to set where the labels are guides: measured genes with something behind them."""
    genes = set(counts.genes)
    if sum(label.split("_")[0] in genes for label in unknown) < len(unknown) / 2:
        return ""
    return (
        f" If they are guides, such as {unknown[0]!r}, set datasets.{name}.target_pattern: "
        "'([^_]+)_.*' for the gene in front."
    )


def unknown_targets(condition: np.ndarray, genes: np.ndarray) -> list[str]:
    """The perturbed genes, sorted, that were not measured."""
    known = set(genes)
    targets = {gene for one in np.unique(condition) for gene in perturbed_genes(one)}
    return sorted(targets - known)


def _labels(counts: Counts, name: str, dataset: Columns) -> np.ndarray:
    values = column(counts.obs, dataset.perturbation_key, name, "obs", "perturbation_key")
    every = np.ones(len(counts.cells), dtype=bool)
    _refuse_missing(values, counts, every, name, dataset.perturbation_key)
    return values.astype(str).to_numpy(dtype=str)


def _conditions(labels: np.ndarray, counts: Counts, name: str, dataset: Columns) -> np.ndarray:
    sizes, genes = _sizes(labels), set(counts.genes)
    check_labels(sizes, genes, name, dataset)
    condition = {label: condition_of(label, dataset, genes) for label in sizes}
    return pd.Series(labels).map(condition).to_numpy(dtype=str)


def _cell_types(
    counts: Counts, labelled: np.ndarray, name: str, dataset: Columns
) -> tuple[np.ndarray, dict[str, str]]:
    """The cell type of every cell, and those that had to be renamed."""
    if dataset.cell_type_key is None:
        return np.full(len(counts.cells), dataset.cell_type), {}
    values = column(counts.obs, dataset.cell_type_key, name, "obs", "cell_type_key")
    _refuse_missing(values, counts, labelled, name, dataset.cell_type_key)
    values = values.astype(str)
    used = sorted(values[labelled].unique())
    # scGPT splits "{cell_type}_{condition}_{dose}" at underscores.
    renamed = {one: re.sub("[_/]", "-", one) for one in used if "_" in one or "/" in one}
    if renamed and dataset.unsafe_cell_types == "error":
        raise InputError(
            f"Dataset {name!r} has cell types with '_' or '/' in {dataset.cell_type_key!r}: "
            f"{listed(renamed)}. GEARS and scGPT split names there; rename them, "
            f"e.g. {next(iter(renamed.values()))!r}, or set datasets.{name}.unsafe_cell_types to "
            "replace, which does so."
        )
    made = [renamed.get(one, one) for one in used]
    same = [one for one in used if made.count(renamed.get(one, one)) > 1]
    if same:
        raise InputError(
            f"The cell types {listed(same)} of dataset {name!r} would be called alike once '_' and "
            "'/' are replaced by '-' (unsafe_cell_types); rename one of them in the file."
        )
    return values.map(lambda one: renamed.get(one, one)).to_numpy(dtype=str), renamed


def _batches(counts: Counts, labelled: np.ndarray, name: str, dataset: Columns) -> np.ndarray:
    if dataset.batch_key is None:
        return np.full(len(counts.cells), "batch0")
    values = column(counts.obs, dataset.batch_key, name, "obs", "batch_key")
    _refuse_missing(values, counts, labelled, name, dataset.batch_key)
    return values.astype(str).to_numpy(dtype=str)


def _refuse_missing(
    values: pd.Series, counts: Counts, needed: np.ndarray, name: str, key: str
) -> None:
    cells = counts.cells[is_missing(values) & needed]
    if len(cells):
        raise InputError(
            f"Dataset {name!r} has {len(cells)} cells without {key!r}: {listed(cells, 3)}. "
            "Label them, or remove them from the file; a missing label is no control."
        )


def _sizes(values: np.ndarray) -> dict[str, int]:
    """How often each value occurs, sorted by value."""
    sizes = pd.Series(values).value_counts().sort_index()
    return {key: int(count) for key, count in sizes.items()}


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
