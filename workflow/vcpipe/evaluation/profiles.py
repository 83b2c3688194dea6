"""Mean profiles of groups of cells, summed chunk by chunk; only the sums are dense."""

# P perturbations, C cells, G genes, K groups of cells, T cell types

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcpipe.data.group_sums import GroupSums, add_cells, empty_sums, welch_t_KG
from vcpipe.data.model_cells import evaluated_set, start_rows
from vcpipe.data.screen import Screen, perturbed_genes
from vcpipe.data.splits import SplitTable, controls_of_set, perturbed_rows, sets_of_cells
from vcpipe.errors import InputError, listed


@dataclass(frozen=True)
class TrainingProfiles:
    """All that a baseline may learn from: training perturbations and the model's controls.

    Where contexts are held out, control_G is of the evaluated one's controls and mean_PG these plus
    the effects in the other contexts.
    """

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
    train_mean_G: np.ndarray  # every training perturbation counts the same, as a baseline has it


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
    own = _own_controls(screen, split, controls, conditions)
    beside = [start_rows(screen, split, controls), *own.rows]
    groups = [("train", condition) for condition in conditions]
    group_C = _groups(screen, split, groups, beside)
    mean_KG = sums_of(screen, group_C, len(groups) + len(beside)).mean_KG
    mean_PG, control_G = mean_KG[: len(groups)], mean_KG[len(groups)]
    mean_PG = _moved(mean_PG, control_G, own, mean_KG[len(groups) + 1 :])
    return TrainingProfiles(screen.genes, conditions, mean_PG, control_G)


def measured_profiles(
    screen: Screen, split: SplitTable, controls: dict[str, str], conditions: list[str]
) -> MeasuredProfiles:
    """Profiles of the evaluated conditions, of both halves of the controls and of the training."""
    evaluated = evaluated_set(split)
    groups = [(evaluated, condition) for condition in conditions]
    groups += [("train", condition) for condition in training_conditions(split)]
    groups = list(dict.fromkeys(groups))
    train = [number for number, (name, _) in enumerate(groups) if name == "train"]
    own = _own_controls(screen, split, controls, [groups[number][1] for number in train])
    scoring = controls_of_set(screen, split, controls, evaluated, "scoring")
    beside = [start_rows(screen, split, controls), scoring, *own.rows]
    num_groups = len(groups) + len(beside)
    total = sums_of(screen, _groups(screen, split, groups, beside), num_groups)
    mean_KG = total.mean_KG
    control_G, scoring_G = mean_KG[len(groups)], mean_KG[len(groups) + 1]
    train_PG = _moved(mean_KG[train], control_G, own, mean_KG[len(groups) + 2 :])
    size = len(conditions)
    return MeasuredProfiles(
        genes=screen.genes,
        conditions=conditions,
        num_cells_P=total.num_cells_K[:size],
        mean_PG=mean_KG[:size],
        t_PG=welch_t_KG(total, np.full(num_groups, len(groups) + 1))[:size],
        model_control_G=control_G,
        scoring_control_G=scoring_G,
        train_mean_G=train_PG.mean(axis=0),
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


@dataclass(frozen=True)
class OwnControls:
    """The model's controls of the train contexts by cell type, and whose cells they stand beside.

    Empty where no contexts are held out: then all sets have the same controls.
    """

    rows: list[np.ndarray]  # of each cell type
    share_PT: np.ndarray  # of a training perturbation's cells, those of each cell type


def _own_controls(
    screen: Screen, split: SplitTable, controls: dict[str, str], conditions: list[str]
) -> OwnControls:
    if not split.context_key:
        return OwnControls([], np.zeros((len(conditions), 0)))
    cells = perturbed_rows(screen, split, "train")
    share = pd.crosstab(screen.condition[cells], screen.cell_type[cells], normalize="index")
    beside = controls_of_set(screen, split, controls, "train", "model")
    rows = [beside[screen.cell_type[beside] == one] for one in share.columns]
    lonely = [one for one, its in zip(share.columns, rows, strict=True) if not len(its)]
    if lonely:
        raise InputError(
            f"{screen.path} has no control cells for models of cell type {listed(lonely)} in the "
            "train contexts; hold out other contexts, or draw the controls with another seed."
        )
    return OwnControls(rows, share.loc[conditions].to_numpy())


def _moved(
    mean_PG: np.ndarray, control_G: np.ndarray, own: OwnControls, own_TG: np.ndarray
) -> np.ndarray:
    """Training profiles as they would be beside the controls of the evaluated context."""
    if not own.rows:
        return mean_PG
    effect_PG = mean_PG - own.share_PT @ own_TG
    return control_G + effect_PG


def _groups(
    screen: Screen, split: SplitTable, groups: list[tuple[str, str]], beside: list[np.ndarray]
) -> np.ndarray:
    """Number each perturbed cell by its set and condition, then rows of controls; -1 for others."""
    places = pd.MultiIndex.from_arrays([sets_of_cells(screen, split), screen.condition])
    group_C = pd.MultiIndex.from_tuples(groups).get_indexer(places)
    empty = sorted({groups[number][1] for number in set(range(len(groups))) - set(group_C)})
    if empty:
        raise InputError(f"{screen.path} has no cells of {listed(empty)}; was it made anew?")
    for number, rows in enumerate(beside, start=len(groups)):
        group_C[rows] = number
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
