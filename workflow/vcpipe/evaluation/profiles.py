"""Mean profiles of groups of cells, summed chunk by chunk; only the sums are dense."""

# P perturbations, C cells, G genes, K groups of cells

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcpipe.data.group_sums import GroupSums, add_cells, empty_sums, welch_t_KG
from vcpipe.data.screen import Screen, perturbed_genes
from vcpipe.data.splits import SplitTable, control_rows, rows_of
from vcpipe.errors import InputError


@dataclass(frozen=True)
class TrainingProfiles:
    """All that a baseline may learn from: training perturbations and the model's controls."""

    genes: np.ndarray
    conditions: list[str]
    mean_PG: np.ndarray
    control_G: np.ndarray


@dataclass(frozen=True)
class MeasuredProfiles:
    """What predictions are held against."""

    genes: np.ndarray
    conditions: list[str]
    num_cells_P: np.ndarray
    mean_PG: np.ndarray
    t_PG: np.ndarray  # Welch's t against the scoring half of the controls
    model_control_G: np.ndarray
    scoring_control_G: np.ndarray
    train_mean_G: np.ndarray  # every training perturbation counts the same


def sums_of(screen: Screen, group_C: np.ndarray, num_groups: int) -> GroupSums:
    """Sum up the cells of each group; cells of group -1 are left out."""
    total = empty_sums(num_groups, len(screen.genes))
    for rows, values_CG in screen.chunks():
        kept = np.flatnonzero(group_C[rows] >= 0)
        add_cells(total, values_CG[kept], group_C[rows][kept])
    return total


def training_profiles(
    screen: Screen, split: SplitTable, controls: dict[str, str]
) -> TrainingProfiles:
    """Profiles of the train perturbations and of the model's half of the controls."""
    conditions = training_conditions(split)
    group_C = _groups(screen, conditions, controls, ["model"])
    mean_PG = sums_of(screen, group_C, len(conditions) + 1).mean_KG
    return TrainingProfiles(screen.genes, conditions, mean_PG[:-1], mean_PG[-1])


def measured_profiles(
    screen: Screen, split: SplitTable, controls: dict[str, str], conditions: list[str]
) -> MeasuredProfiles:
    """Profiles of the evaluated conditions, of both halves of the controls and of the training."""
    train = training_conditions(split)
    seen = set(conditions)
    groups = [*conditions, *(name for name in train if name not in seen)]
    group_C = _groups(screen, groups, controls, ["model", "scoring"])
    total = sums_of(screen, group_C, len(groups) + 2)
    mean_PG = total.mean_KG
    scoring_P = np.full(len(groups) + 2, len(groups) + 1)
    size = len(conditions)
    return MeasuredProfiles(
        genes=screen.genes,
        conditions=conditions,
        num_cells_P=total.num_cells_K[:size],
        mean_PG=mean_PG[:size],
        t_PG=welch_t_KG(total, scoring_P)[:size],
        model_control_G=mean_PG[-2],
        scoring_control_G=mean_PG[-1],
        train_mean_G=mean_PG[:-2][np.isin(groups, train)].mean(axis=0),
    )


def training_conditions(split: SplitTable) -> list[str]:
    """Perturbations of the train set."""
    conditions = split.conditions("train")
    if not conditions:
        raise InputError(
            "The split has no perturbation in train; expected at least one row with set train "
            "besides ctrl. Rerun split_perturbations with a larger train_gene_set_size."
        )
    return conditions


def _groups(
    screen: Screen, conditions: list[str], controls: dict[str, str], uses: list[str]
) -> np.ndarray:
    """Number each cell by its condition, then controls by their use; -1 for all other cells."""
    group_C = np.full(len(screen.cells), -1)
    rows = rows_of(screen, conditions)
    group_C[rows] = pd.Index(conditions).get_indexer(screen.condition[rows])
    for number, use in enumerate(uses, start=len(conditions)):
        group_C[control_rows(screen, controls, use)] = number
    return group_C


def differential_genes(t_PG: np.ndarray, allowed_PG: np.ndarray, num_genes: int) -> np.ndarray:
    """Mark the genes of largest |t| among the allowed ones; of equals the first, never t = 0."""
    strength_PG = np.where(allowed_PG, np.abs(t_PG), 0)
    strongest = np.argsort(-strength_PG, axis=1, kind="stable")[:, :num_genes]
    chosen_PG = np.zeros(t_PG.shape, dtype=bool)
    np.put_along_axis(chosen_PG, strongest, True, axis=1)
    return chosen_PG & (strength_PG > 0)


def target_genes(conditions: list[str], genes: np.ndarray) -> np.ndarray:
    """Mark each condition's perturbed genes, bool [P, G]; none if not measured."""
    return np.array([np.isin(genes, perturbed_genes(condition)) for condition in conditions])
