from dataclasses import replace

import numpy as np
import pytest

from vcpipe.data.order import BatchDraw
from vcpipe.data.pairing import pair_controls
from vcpipe.data.partners import Partners
from vcpipe.data.screen import Screen
from vcpipe.data.splits import control_rows, draw_controls


@pytest.fixture
def screen(labelled_screen) -> Screen:
    return labelled_screen


def made(screen: Screen, match_batch: bool = True, pool: np.ndarray | None = None) -> Partners:
    controls = draw_controls(screen, 0)
    model, scoring = (control_rows(screen, controls, use) for use in ("model", "scoring"))
    cells = np.setdiff1d(np.arange(len(screen.cells)), scoring)
    control_row = pair_controls(screen, controls, "screen", np.random.default_rng(0))
    pool = model if pool is None else pool
    return Partners(screen, cells, control_row[cells], pool, match_batch)


def drawn(partners: Partners, epoch: int = 0, seed: int = 0) -> np.ndarray:
    positions = np.arange(len(partners.paired_with))
    return partners.drawn(positions, BatchDraw(seed, epoch))


def cells_of(screen: Screen) -> np.ndarray:
    scoring = control_rows(screen, draw_controls(screen, 0), "scoring")
    return np.setdiff1d(np.arange(len(screen.cells)), scoring)


def test_a_partner_is_a_control_for_models_of_the_own_batch_and_cell_type(screen):
    cells, partners = cells_of(screen), drawn(made(screen))
    assert set(partners) <= set(control_rows(screen, draw_controls(screen, 0), "model"))
    assert (screen.batch[partners] == screen.batch[cells]).all()
    assert (screen.cell_type[partners] == screen.cell_type[cells]).all()


def test_batches_need_not_match(screen):
    cells, partners = cells_of(screen), drawn(made(screen, match_batch=False))
    assert (screen.batch[partners] != screen.batch[cells]).any()
    assert (screen.cell_type[partners] == screen.cell_type[cells]).all()


def test_every_epoch_draws_others_and_the_same_name_the_same(screen):
    partners = made(screen)
    perturbed = screen.condition[cells_of(screen)] != "ctrl"
    first, second = drawn(partners)[perturbed], drawn(partners, epoch=1)[perturbed]
    assert (first != second).mean() > 0.5
    assert (first != drawn(partners, seed=1)[perturbed]).mean() > 0.5
    np.testing.assert_array_equal(first, drawn(made(screen))[perturbed])


def test_a_control_cell_stands_beside_itself(screen):
    cells = cells_of(screen)
    controls = screen.condition[cells] == "ctrl"
    np.testing.assert_array_equal(drawn(made(screen))[controls], cells[controls])


def test_a_cell_draws_the_same_whatever_else_is_in_its_batch(screen):
    partners = made(screen)
    alone = [partners.drawn(np.array([at]), BatchDraw(0, 3, step=9))[0] for at in range(40)]
    np.testing.assert_array_equal(alone, drawn(partners, epoch=3)[:40])


def test_partners_do_not_depend_on_the_order_of_rows(screen):
    order = np.random.default_rng(9).permutation(400)
    names = ("cells", "condition", "batch", "cell_type")
    other = replace(screen, **{name: getattr(screen, name)[order] for name in names})

    def by_name(its: Screen) -> dict[str, str]:
        cells = its.cells[cells_of(its)]
        return dict(zip(cells.tolist(), its.cells[drawn(made(its))].tolist(), strict=True))

    assert by_name(screen) == by_name(other)


def test_controls_of_a_pool_are_drawn_about_equally_often(screen):
    one = replace(screen, batch=np.full(400, "b"), cell_type=np.full(400, "K562"))
    partners = made(one)
    perturbed = one.condition[cells_of(one)] != "ctrl"
    often = np.concatenate([drawn(partners, epoch)[perturbed] for epoch in range(50)])
    times = np.bincount(often, minlength=400)[control_rows(one, draw_controls(one, 0), "model")]
    # 320 perturbed cells × 50 epochs over 40 controls: 400 each, standard deviation 20.
    assert 320 < times.min() <= times.max() < 480


def test_a_batch_without_controls_draws_from_its_cell_type_and_is_counted(screen):
    model = control_rows(screen, draw_controls(screen, 0), "model")
    partners = made(screen, pool=model[screen.batch[model] != "b1"])
    cells = cells_of(screen)
    lonely = (screen.batch[cells] == "b1") & (screen.condition[cells] != "ctrl")
    beside = drawn(partners)
    assert (screen.batch[beside[lonely]] != "b1").all()
    assert (screen.cell_type[beside] == screen.cell_type[cells]).all()
    assert f"{lonely.sum()} cells have no control of their batch" in partners.notes()[1]


def test_a_cell_type_without_controls_keeps_its_pairs(screen):
    model = control_rows(screen, draw_controls(screen, 0), "model")
    partners = made(screen, pool=model[screen.cell_type[model] != "RPE1"])
    cells = cells_of(screen)
    lonely = (screen.cell_type[cells] == "RPE1") & (screen.condition[cells] != "ctrl")
    np.testing.assert_array_equal(drawn(partners)[lonely], partners.paired_with[lonely])
    assert f"{lonely.sum()} cells have no control of their cell type" in partners.notes()[1]


def test_only_controls_of_the_pool_are_ever_drawn(screen):
    model = control_rows(screen, draw_controls(screen, 0), "model")
    pool = model[screen.cell_type[model] == "K562"][:5]
    partners = made(screen, pool=pool)
    for epoch in range(10):
        beside = drawn(partners, epoch)
        paired = partners.num == 0
        assert set(beside[~paired]) <= set(pool)
        assert set(beside) <= set(partners.rows())
