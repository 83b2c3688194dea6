"""Which cells a model learns from, starts from, and is evaluated on."""

import zlib

import numpy as np

from vcpipe.data.order import generator_of
from vcpipe.data.screen import CONTROL, Screen
from vcpipe.data.splits import SplitTable, controls_of_set, perturbed_rows, training_rows

# The subgroup of what was trained on, where that is all there is to score.
SEEN = "seen"


def model_rows(
    screen: Screen, split: SplitTable, controls: dict[str, str]
) -> dict[str, np.ndarray]:
    """Rows to train on and to validate on."""
    return {
        "train": training_rows(screen, split, controls),
        "val": perturbed_rows(screen, split, "val"),
    }


def start_rows(screen: Screen, split: SplitTable, controls: dict[str, str]) -> np.ndarray:
    """Control cells that predictions start from."""
    return controls_of_set(screen, split, controls, evaluated_set(split), "model")


def evaluated_set(split: SplitTable) -> str:
    """The set that is predicted and scored: test; without one, what was seen."""
    return "test" if split.conditions("test") else "train"


def evaluated_conditions(split: SplitTable) -> dict[str, str]:
    """What is predicted and scored, with its subgroup."""
    if evaluated_set(split) == "train":
        return dict.fromkeys(split.conditions("train"), SEEN)
    # A condition has the same subgroup in all test contexts.
    return {
        place[0]: split.subgroup[place]
        for place, its in split.sets.items()
        if its == "test" and place[0] != CONTROL
    }


def generator_for(condition: str, seed: int) -> np.random.Generator:
    """A generator named by a condition, so that no prediction depends on which others are made."""
    return generator_of(seed, zlib.crc32(condition.encode()))


def draw_controls(rows: np.ndarray, num_cells: int, generator: np.random.Generator) -> np.ndarray:
    """Control cells that predictions start from; drawn again only where they are few."""
    return generator.choice(rows, num_cells, replace=num_cells > len(rows))
