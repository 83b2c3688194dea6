from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vcpipe.data.pairing import pair_controls
from vcpipe.data.screen import Screen
from vcpipe.errors import InputError


@pytest.fixture
def screen() -> Screen:
    """400 cells, a fifth of them controls, in 3 batches."""
    generator = np.random.default_rng(2)
    return Screen(
        path=Path("screen.h5ad"),
        genes=np.array(["A"]),
        cells=generator.permutation([f"cell{i:03d}" for i in range(400)]),
        condition=np.where(np.arange(400) % 5 == 0, "ctrl", "A+ctrl"),
        batch=generator.choice(["b0", "b1", "b2"], 400),
        cell_type=np.full(400, "K562"),
        about={},
    )


def seeded(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


@pytest.mark.parametrize("within_batch", [False, True])
def test_perturbed_cells_get_controls_and_controls_themselves(screen, within_batch):
    paired = pair_controls(screen, within_batch, seeded())
    assert (screen.condition[paired] == "ctrl").all()
    controls = np.flatnonzero(screen.condition == "ctrl")
    np.testing.assert_array_equal(paired[controls], controls)


def test_controls_come_from_the_own_batch_only_when_asked(screen):
    inside, anywhere = (pair_controls(screen, within, seeded()) for within in (True, False))
    assert (screen.batch[inside] == screen.batch).all()
    assert (screen.batch[anywhere] != screen.batch).any()


def test_every_control_is_drawn_about_equally_often(screen):
    perturbed = screen.condition != "ctrl"
    drawn = np.concatenate([pair_controls(screen, False, seeded(i))[perturbed] for i in range(50)])
    times = np.bincount(drawn, minlength=400)[~perturbed]
    # 320 perturbed cells × 50 draws over 80 controls: 200 each, standard deviation 14.
    assert 140 < times.min() <= times.max() < 260


@pytest.mark.parametrize("within_batch", [False, True])
def test_pairs_depend_on_the_seed_and_not_on_row_order(screen, within_batch):
    paired = pair_controls(screen, within_batch, seeded())
    assert (pair_controls(screen, within_batch, seeded(1)) != paired).any()
    order = seeded(9).permutation(400)
    names = ("cells", "condition", "batch", "cell_type")
    other = replace(screen, **{name: getattr(screen, name)[order] for name in names})
    again = pair_controls(other, within_batch, seeded())
    assert dict(zip(other.cells, other.cells[again], strict=True)) == dict(
        zip(screen.cells, screen.cells[paired], strict=True)
    )


def test_a_batch_without_controls_is_named_with_the_setting(screen):
    condition = screen.condition.copy()
    condition[screen.batch == "b1"] = "A+ctrl"
    without = replace(screen, condition=condition)
    with pytest.raises(
        InputError,
        match=r"Batch 'b1' of screen.h5ad has \d+ perturbed cells and no control.*"
        r"gears.cell_graphs.within_batch to false",
    ):
        pair_controls(without, True, seeded())
    assert (condition[pair_controls(without, False, seeded())] == "ctrl").all()


def test_a_screen_without_controls_is_refused(screen):
    without = replace(screen, condition=np.full(400, "A+ctrl"))
    with pytest.raises(InputError, match="has no control cells"):
        pair_controls(without, False, seeded())
