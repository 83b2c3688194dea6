"""Which cells are predicted, and the way from control cells to them, a block at a time.

Any model is a function that is given a condition and answers with one from control cells to
predicted ones; no more than a block of cells is held, however many are asked for.
"""

# C cells of a block, G genes

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from vcpipe.config.eval import Prediction
from vcpipe.data.count_sampling import draw_counts, scaled_to_median
from vcpipe.data.model_cells import draw_controls, evaluated_conditions, generator_for
from vcpipe.data.screen import Screen, perturbed_genes
from vcpipe.data.splits import SplitTable
from vcpipe.data.target_lists import Target, read_target_list
from vcpipe.errors import InputError, listed

# Values of a block: 16 MB in float32.
VALUES_AT_ONCE = 2**22

# What all cells of a condition share is drawn from the generator.
OfCells = Callable[[np.ndarray], np.ndarray]
Predictor = Callable[[str, np.random.Generator], OfCells]


class PredictedCells(NamedTuple):
    """Some cells of one condition."""

    condition: str
    values_CG: np.ndarray  # log1p
    counts_CG: sp.csr_matrix | None = None


@dataclass(frozen=True)
class Asked:
    """The targets to predict, and what a reader of the predictions must know about them."""

    targets: list[Target]
    unchanged: frozenset[str]  # conditions that are predicted to be control cells
    notes: list[str]

    @property
    def conditions(self) -> list[str]:
        return [target.condition for target in self.targets]


def asked_of_split(split: SplitTable, config: Prediction) -> Asked:
    """The conditions that the split evaluates, num_cells of each."""
    targets = [Target(condition, config.num_cells) for condition in evaluated_conditions(split)]
    notes = []
    if config.library_sizes == "listed":
        notes.append("library sizes are those of the controls: a split lists none")
    return Asked(targets, frozenset(), notes)


def asked_of_list(
    path: Path, split: SplitTable, genes: Collection[str], whose: str, config: Prediction
) -> Asked:
    """The targets of a list; `genes` can be perturbed, `whose` says who has them."""
    targets = read_target_list(path)
    conditions = [target.condition for target in targets]
    unknown = [one for one in conditions if not set(genes).issuperset(perturbed_genes(one))]
    if unknown and config.unknown_targets == "error":
        raise InputError(
            f"{path} names {listed(unknown)}, and {whose} lacks a gene of each (it has "
            f"{len(genes)}); leave them out, or set eval.prediction.unknown_targets: no_change."
        )
    without = [target.condition for target in targets if target.median_counts is None]
    if without and config.library_sizes == "listed":
        raise InputError(
            f"{path} gives no median_umi_per_cell for {listed(without)}, but "
            "eval.prediction.library_sizes is listed; add them, or set it to controls."
        )
    seen = sorted(set(conditions) & set(split.conditions("train")))
    num_cells = sum(target.num_cells for target in targets)
    notes = [f"{num_cells} cells of {len(targets)} targets, as {path.name} asks"]
    if seen:
        notes.append(f"{len(seen)} of these targets are in train: {listed(seen)}")
    if unknown:
        notes.append(f"predicted unchanged, {whose} lacks a gene: {listed(unknown)}")
    return Asked(targets, frozenset(unknown), notes)


def predicted_cells(
    screen: Screen, rows: np.ndarray, asked: Asked, predictor: Predictor, config: Prediction
) -> Iterator[PredictedCells]:
    """Each target's cells, every one from a control cell among `rows`."""
    size = max(config.batch_size, VALUES_AT_ONCE // len(screen.genes))
    for target in asked.targets:
        generator = generator_for(target.condition, config.seed)
        drawn = draw_controls(rows, target.num_cells, generator)
        is_unchanged = target.condition in asked.unchanged
        predict = unchanged if is_unchanged else predictor(target.condition, generator)
        num_counts_C = library_sizes(screen, drawn, target, config) if config.counts else None
        # Of its own, so that values are the same whether counts are drawn or not.
        counting = generator_for(f"counts of {target.condition}", config.seed)
        for start in range(0, len(drawn), size):
            part = slice(start, start + size)
            values_CG = predict(control_values(screen, drawn[part]))
            counts_CG = None
            if num_counts_C is not None:
                of_cells = (config.count_sampling, counting, target.condition)
                counts_CG = draw_counts(values_CG, num_counts_C[part], *of_cells)
            yield PredictedCells(target.condition, values_CG, counts_CG)


def unchanged(control_CG: np.ndarray) -> np.ndarray:
    return control_CG


def control_values(screen: Screen, drawn: np.ndarray) -> np.ndarray:
    """Log-normalised values of cells, which may be drawn several times."""
    order, back = np.unique(drawn, return_inverse=True)
    return screen.values(order).toarray()[back]


def library_sizes(
    screen: Screen, drawn: np.ndarray, target: Target, config: Prediction
) -> np.ndarray:
    """Counts of each predicted cell: as many as the control cell has that it comes from.

    A shallow cell's values have more zeros, so its pattern and its depth belong together.
    """
    order, back = np.unique(drawn, return_inverse=True)
    size = max(1, VALUES_AT_ONCE // len(screen.genes))
    sums = [
        screen.counts(order[start : start + size]).sum(axis=1)
        for start in range(0, len(order), size)
    ]
    num_counts_C = np.asarray(np.concatenate(sums)).ravel().astype(np.int64)[back]
    if config.library_sizes == "listed" and target.median_counts is not None:
        return scaled_to_median(num_counts_C, target.median_counts)
    return num_counts_C
