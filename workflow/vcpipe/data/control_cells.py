"""The control cells that predictions start from: the same for every model."""

import zlib

import numpy as np

from vcpipe.data.order import generator_of
from vcpipe.data.screen import Screen
from vcpipe.data.splits import Controls, control_rows


def generator_for(condition: str, seed: int) -> np.random.Generator:
    """A generator named by a condition, so that no prediction depends on which others are made."""
    return generator_of(seed, zlib.crc32(condition.encode()))


def draw_controls(
    screen: Screen, controls: Controls, num_cells: int, generator: np.random.Generator
) -> np.ndarray:
    """Values of control cells of the models' half; drawn with replacement where they are few."""
    rows = control_rows(screen, controls, "model")
    drawn = generator.choice(rows, num_cells, replace=num_cells > len(rows))
    order, back = np.unique(drawn, return_inverse=True)
    return screen.values(order).toarray()[back]
