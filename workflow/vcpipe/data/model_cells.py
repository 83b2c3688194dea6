"""Which cells a model learns from, starts from, and is evaluated on."""

import zlib

import numpy as np

from vcpipe.data.order import generator_of
from vcpipe.data.screen import Screen
from vcpipe.data.splits import SplitTable, rows_of, training_rows


def model_rows(
    screen: Screen, split: SplitTable, controls: dict[str, str]
) -> dict[str, np.ndarray]:
    """Rows to train on and to validate on."""
    return {
        "train": training_rows(screen, split, controls),
        "val": rows_of(screen, split.conditions("val")),
    }


def evaluated_conditions(split: SplitTable) -> dict[str, str]:
    """What is predicted and scored, with its subgroup: the test set; without one, what was seen."""
    test = split.conditions("test")
    if test:
        return {condition: split.subgroup[condition] for condition in test}
    return dict.fromkeys(split.conditions("train"), "seen")


def generator_for(condition: str, seed: int) -> np.random.Generator:
    """A generator named by a condition, so that no prediction depends on which others are made."""
    return generator_of(seed, zlib.crc32(condition.encode()))


def draw_controls(
    screen: Screen, rows: np.ndarray, num_cells: int, generator: np.random.Generator
) -> np.ndarray:
    """Values of control cells that predictions start from; drawn again only where they are few."""
    drawn = generator.choice(rows, num_cells, replace=num_cells > len(rows))
    order, back = np.unique(drawn, return_inverse=True)
    return screen.values(order).toarray()[back]
