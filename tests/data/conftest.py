from pathlib import Path

import numpy as np
import pytest

from vcpipe.data.screen import Screen


@pytest.fixture
def labelled_screen() -> Screen:
    """400 cells, a fifth of them controls, in 3 batches and 2 cell types; no file is read."""
    generator = np.random.default_rng(2)
    return Screen(
        path=Path("screen.h5ad"),
        genes=np.array(["A"]),
        cells=generator.permutation([f"cell{i:03d}" for i in range(400)]),
        condition=np.where(np.arange(400) % 5 == 0, "ctrl", "A+ctrl"),
        batch=generator.choice(["b0", "b1", "b2"], 400),
        cell_type=generator.choice(["K562", "RPE1"], 400),
        about={
            "name": "tiny",
            "data_digest": "d1",
            "settings": {"normalisation": {"target_sum": 1e4}},
        },
    )
