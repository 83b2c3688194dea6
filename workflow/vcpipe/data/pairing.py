"""Which control cell stands beside each perturbed cell: one index a cell, drawn with a seed."""

import numpy as np

from vcpipe.data.screen import CONTROL, Screen
from vcpipe.errors import InputError


def pair_controls(screen: Screen, within_batch: bool, generator: np.random.Generator) -> np.ndarray:
    """For each cell the row of a control drawn with replacement; a control stands beside itself.

    Cells draw in the order of their names, so pairs do not depend on the order of rows. GEARS draws
    from all controls; within_batch draws from those of the cell's own batch.
    """
    pool = screen.batch if within_batch else np.full(len(screen.cells), "screen")
    is_control = screen.condition == CONTROL
    by_name = np.argsort(screen.cells)
    paired = np.arange(len(screen.cells))
    for one in np.unique(pool):
        cells = by_name[(pool[by_name] == one) & ~is_control[by_name]]
        controls = by_name[(pool[by_name] == one) & is_control[by_name]]
        if len(cells) and not len(controls):
            raise InputError(_no_controls(screen, str(one), len(cells), within_batch))
        paired[cells] = controls[generator.integers(len(controls), size=len(cells))]
    return paired


def _no_controls(screen: Screen, batch: str, num_cells: int, within_batch: bool) -> str:
    if not within_batch:
        return f"{screen.path} has no control cells; expected cells of condition {CONTROL!r}."
    return (
        f"Batch {batch!r} of {screen.path} has {num_cells} perturbed cells and no control cell, so "
        "none can be paired within it. Set gears.cell_graphs.within_batch to false, or merge "
        "batches (datasets.<name>.batch_key)."
    )
