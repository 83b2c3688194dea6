import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.pair_controls import main
from vcpipe.config.gears import Conversion, Pairing
from vcpipe.data.gears import convert
from vcpipe.data.pairing import (
    NOBODY,
    Pairs,
    check_same_controls,
    pair_controls,
    read_pairs,
    write_pairs,
)
from vcpipe.data.screen import Screen, open_screen
from vcpipe.data.splits import control_rows, draw_controls, read_controls
from vcpipe.errors import InputError

WITHIN = ["screen", "cell_type", "batch"]


@pytest.fixture
def screen(labelled_screen) -> Screen:
    return labelled_screen


@pytest.fixture
def controls(screen) -> dict[str, str]:
    return draw_controls(screen, 0)


def seeded(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


@pytest.mark.parametrize("within", WITHIN)
def test_perturbed_cells_get_controls_of_the_models_half_and_never_one_for_scoring(
    screen, controls, within
):
    control_row = pair_controls(screen, controls, within, seeded())
    assert control_row.dtype == np.int32
    partners = control_row[screen.condition != "ctrl"]
    model, scoring = (control_rows(screen, controls, use) for use in ("model", "scoring"))
    assert set(partners) <= set(model)
    np.testing.assert_array_equal(control_row[model], model)
    assert (control_row[scoring] == NOBODY).all()


def test_controls_are_of_the_own_batch_and_cell_type_as_asked(screen, controls):
    perturbed = screen.condition != "ctrl"
    shared = {}
    for within in WITHIN:
        partners = pair_controls(screen, controls, within, seeded())[perturbed]
        shared[within] = (
            bool((screen.batch[partners] == screen.batch[perturbed]).all()),
            bool((screen.cell_type[partners] == screen.cell_type[perturbed]).all()),
        )
    assert shared == {
        "screen": (False, False),
        "cell_type": (False, True),
        "batch": (True, True),
    }


def test_one_cell_type_is_the_whole_screen(screen, controls):
    one = replace(screen, cell_type=np.full(400, "K562"))
    np.testing.assert_array_equal(
        pair_controls(one, controls, "cell_type", seeded()),
        pair_controls(one, controls, "screen", seeded()),
    )


def test_every_control_is_drawn_about_equally_often(screen, controls):
    perturbed = screen.condition != "ctrl"
    drawn = [pair_controls(screen, controls, "screen", seeded(i))[perturbed] for i in range(50)]
    model = control_rows(screen, controls, "model")
    times = np.bincount(np.concatenate(drawn), minlength=400)[model]
    # 320 perturbed cells × 50 draws over 40 controls: 400 each, standard deviation 20.
    assert 320 < times.min() <= times.max() < 480


@pytest.mark.parametrize("within", WITHIN)
def test_pairs_depend_on_the_seed_and_not_on_row_order(screen, controls, within):
    paired = pair_controls(screen, controls, within, seeded())
    assert (pair_controls(screen, controls, within, seeded(1)) != paired).any()
    order = seeded(9).permutation(400)
    names = ("cells", "condition", "batch", "cell_type")
    other = replace(screen, **{name: getattr(screen, name)[order] for name in names})
    again = pair_controls(other, controls, within, seeded())
    assert by_name(other, again) == by_name(screen, paired)


def by_name(screen: Screen, control_row: np.ndarray) -> dict[str, str]:
    partner = np.where(control_row == NOBODY, "nobody", screen.cells[control_row])
    return dict(zip(screen.cells.tolist(), partner.tolist(), strict=True))


@pytest.mark.parametrize(
    ("key", "within", "message"),
    [
        (
            "batch",
            "batch",
            r"Batch b1 of screen.h5ad has \d+ perturbed cells and no control cell of their cell "
            r"type for models.*Set gears.pairing.within to cell_type, or merge batches",
        ),
        (
            "cell_type",
            "cell_type",
            r"Cell type K562 of screen.h5ad has \d+ perturbed.*Set gears.pairing.within to screen",
        ),
    ],
)
def test_cells_without_a_control_are_named_with_the_setting(screen, key, within, message):
    condition = screen.condition.copy()
    condition[getattr(screen, key) == {"batch": "b1", "cell_type": "K562"}[key]] = "A+ctrl"
    without = replace(screen, condition=condition)
    controls = draw_controls(without, 0)
    with pytest.raises(InputError, match=message):
        pair_controls(without, controls, within, seeded())
    partners = pair_controls(without, controls, "screen", seeded())[condition != "ctrl"]
    assert (condition[partners] == "ctrl").all()


def test_a_batch_whose_controls_are_all_kept_for_scoring_has_none(screen, controls):
    batch = dict(zip(screen.cells, screen.batch, strict=True))
    controls |= {cell: "scoring" for cell in controls if batch[cell] == "b2"}
    with pytest.raises(InputError, match="Batch b2 of"):
        pair_controls(screen, controls, "batch", seeded())


def test_a_screen_without_controls_for_models_is_refused(screen, controls):
    with pytest.raises(InputError, match="has no control cells for models"):
        pair_controls(screen, dict.fromkeys(controls, "scoring"), "screen", seeded())


def test_pairs_come_back_as_they_were_written(screen, controls, tmp_path):
    control_row = pair_controls(screen, controls, "batch", seeded())
    about = {"data_digest": "d1", "settings": {"seed": 0, "within": "batch"}}
    write_pairs(tmp_path / "pairs.npz", control_row, about)
    pairs = read_pairs(tmp_path / "pairs.npz", screen)
    np.testing.assert_array_equal(pairs.control_row, control_row)
    assert pairs.control_row.dtype == np.int32
    assert pairs.about == about
    other = replace(pairs, control_row=pair_controls(screen, controls, "batch", seeded(1)))
    assert pairs.digest != other.digest
    check_same_controls(pairs, screen, controls)


def test_pairs_of_other_data_are_refused(screen, controls, tmp_path):
    control_row = pair_controls(screen, controls, "screen", seeded())
    write_pairs(tmp_path / "pairs.npz", control_row, {"data_digest": "d2"})
    with pytest.raises(InputError, match=r"pairs.npz was made from a screen whose data_digest is"):
        read_pairs(tmp_path / "pairs.npz", screen)


def test_pairs_of_fewer_cells_are_refused(screen, controls, tmp_path):
    control_row = pair_controls(screen, controls, "screen", seeded())
    write_pairs(tmp_path / "pairs.npz", control_row[:-1], {"data_digest": "d1"})
    with pytest.raises(InputError, match=r"holds pairs of 399 cells, but .* has 400; rerun"):
        read_pairs(tmp_path / "pairs.npz", screen)


@pytest.mark.parametrize("make", [lambda path: np.save(path, np.arange(400)), Path.mkdir])
def test_an_array_or_a_folder_is_no_pairs(screen, tmp_path, make):
    make(tmp_path / "pairs.npy")
    with pytest.raises(InputError, match=r"holds no pairs \(it is no npz\)"):
        read_pairs(tmp_path / "pairs.npy", screen)


def test_what_holds_no_pairs_is_refused(screen, tmp_path):
    path = tmp_path / "pairs.npz"
    with pytest.raises(InputError, match=r"does not exist; expected the pairs that pair_controls"):
        read_pairs(path, screen)
    path.write_text("cell\tuse\n")
    with pytest.raises(InputError, match="holds no pairs"):
        read_pairs(path, screen)
    np.savez(path, about=np.array("{}"))
    with pytest.raises(InputError, match="holds no pairs"):
        read_pairs(path, screen)
    np.savez(path, control_row=np.array([{}], dtype=object), about=np.array("{}"))
    with pytest.raises(InputError, match="holds no pairs"):
        read_pairs(path, screen)


def test_a_table_of_controls_with_other_halves_is_refused(screen, controls):
    pairs = Pairs(Path("pairs.npz"), pair_controls(screen, controls, "screen", seeded()), {})
    with pytest.raises(InputError, match=r"pairs.npz and the table of controls differ in whether"):
        check_same_controls(pairs, screen, draw_controls(screen, 1))


def test_the_script_writes_controls_and_pairs_that_belong_together(counts, tmp_path, capsys):
    counts.write_h5ad(tmp_path / "counts.h5ad")
    convert(tmp_path / "counts.h5ad", "tiny", Conversion(), tmp_path / "screen.h5ad")
    screen = open_screen(tmp_path / "screen.h5ad")
    read = {}
    for name, *overrides in (("a",), ("b", "seed=0"), ("c", "seed=3", "within=batch")):
        table, npz = tmp_path / f"{name}.tsv", tmp_path / f"{name}.npz"
        main([f"--cells={screen.path}", f"--controls={table}", f"--pairs={npz}", *overrides])
        read[name] = read_controls(table), read_pairs(npz, screen)
        check_same_controls(read[name][1], screen, read[name][0])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert read["a"][0] == read["b"][0] == draw_controls(screen, 0)
    assert read["c"][0] == draw_controls(screen, 3)
    assert read["a"][1].about["settings"] == Pairing().model_dump(mode="json")
    assert json.dumps(read["c"][1].about["settings"]) == '{"seed": 3, "within": "batch"}'
    with pytest.raises(InputError, match="differ in whether"):
        check_same_controls(read["a"][1], screen, read["c"][0])
    assert "80 perturbed cells beside 20 control cells, 20 kept for scoring" in (
        capsys.readouterr().out
    )
