"""Mean profiles of the conditions of a screen that a model learns from, and is selected by."""

# P conditions, G genes, C cells

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcpipe.data.group_sums import add_cells, empty_sums
from vcpipe.data.screen import Screen
from vcpipe.data.splits import SplitTable, controls_of_set, perturbed_rows, training_rows

CHUNK = 2048


@dataclass(frozen=True)
class HeldOutProfiles:
    """What val perturbations look like, and what they are compared with."""

    conditions: list[str]
    mean_PG: np.ndarray
    # The mean training perturbation, as it would be beside the controls of val: every perturbation
    # counts the same.
    train_mean_G: np.ndarray
    controls: np.ndarray  # rows of control cells that predictions may start from


def mean_profiles(screen: Screen, rows: np.ndarray, group_C: np.ndarray, number: int) -> np.ndarray:
    """The mean of each group of cells, [K, G]; rows in any order, and as often as they stand."""
    total = empty_sums(number, len(screen.genes))
    for first in range(0, len(rows), CHUNK):
        part = slice(first, first + CHUNK)
        add_cells(total, screen.values(rows[part]), group_C[part])
    return total.mean_KG


def training_effects(
    screen: Screen, split: SplitTable, controls: dict[str, str], control_row: np.ndarray
) -> pd.DataFrame:
    """Mean change of each training condition from the controls its cells stand beside, [P, G]."""
    rows = training_rows(screen, split, controls)
    code_C, conditions = pd.factorize(screen.condition[rows], sort=True)
    groups = code_C, len(conditions)
    effect_PG = mean_profiles(screen, rows, *groups)
    effect_PG -= mean_profiles(screen, control_row[rows], *groups)
    return pd.DataFrame(effect_PG, index=conditions, columns=screen.genes)


def gene_weights(effects: pd.DataFrame, delta_weight: float) -> pd.DataFrame:
    """What each gene's squared error counts under each condition; 1 on average over its genes.

    >>> effects = pd.DataFrame([[0.0, -3.0], [0.0, 0.0]], index=["A+ctrl", "ctrl"])
    >>> gene_weights(effects, 1.0).to_numpy().tolist()
    [[0.5, 1.5], [1.0, 1.0]]
    """
    size_PG = np.abs(effects.to_numpy())
    mean_P1 = size_PG.mean(axis=1, keepdims=True)
    # Control cells stand beside themselves: nothing changes, and no gene is preferred.
    relative_PG = np.divide(size_PG, mean_P1, out=np.ones_like(size_PG), where=mean_P1 > 0)
    weight_PG = (1 + delta_weight * relative_PG) / (1 + delta_weight)
    return pd.DataFrame(weight_PG, effects.index, effects.columns)


def held_out_profiles(
    screen: Screen, split: SplitTable, controls: dict[str, str], conditions: list[str]
) -> HeldOutProfiles:
    """Of some conditions of val; nothing of a test cell is read."""
    train = perturbed_rows(screen, split, "train")
    val = perturbed_rows(screen, split, "val")
    val = val[np.isin(screen.condition[val], conditions)]
    beside = {
        name: controls_of_set(screen, split, controls, name, "model") for name in ("train", "val")
    }
    code_C, found = pd.factorize(screen.condition[train])
    train_G = mean_profiles(screen, train, code_C, len(found)).mean(axis=0)
    control_G = {
        name: mean_profiles(screen, rows, np.zeros(len(rows), dtype=np.int64), 1)[0]
        for name, rows in beside.items()
    }
    group_C = pd.Index(conditions).get_indexer(screen.condition[val])
    return HeldOutProfiles(
        conditions,
        mean_profiles(screen, val, group_C, len(conditions)),
        train_G + (control_G["val"] - control_G["train"]),
        beside["val"],
    )
