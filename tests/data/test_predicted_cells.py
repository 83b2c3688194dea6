"""Which cells are asked for, and that they come block by block with the same values."""

from itertools import groupby

import numpy as np
import pytest

from vcpipe.config.eval import Prediction
from vcpipe.config.splits import Split
from vcpipe.data import predicted_cells as module
from vcpipe.data.predicted_cells import asked_of_list, asked_of_split, predicted_cells
from vcpipe.data.splits import control_rows, draw_controls, draw_split
from vcpipe.errors import InputError

GENES = {f"GENE{number:02d}" for number in range(30)}


@pytest.fixture
def split(screen):
    return draw_split(screen, Split())[0]


@pytest.fixture
def rows(screen) -> np.ndarray:
    return control_rows(screen, draw_controls(screen, 1), "model")


@pytest.fixture
def ask(split, tmp_path):
    """What a list asks for: ask("A,3", "B,2", library_sizes="listed")."""

    def ask(*lines: str, genes=GENES, **settings):
        path = tmp_path / "list.csv"
        head = "target_gene,n_cells,median_umi_per_cell"[: None if lines[0].count(",") > 1 else 19]
        path.write_text("\n".join([head, *lines]))
        return asked_of_list(path, split, genes, "the model of m", Prediction(**settings))

    return ask


def doubled(condition: str, _: np.random.Generator):
    return lambda control_CG: 2 * control_CG


def predict(screen, rows, asked, predictor=doubled, **settings):
    """Values and counts of each condition, and the sizes of the blocks they came in."""
    blocks = list(predicted_cells(screen, rows, asked, predictor, Prediction(**settings)))
    groups = {name: list(its) for name, its in groupby(blocks, lambda block: block.condition)}
    values = {name: np.vstack([block.values_CG for block in its]) for name, its in groups.items()}
    counts = {
        name: np.vstack([block.counts_CG.toarray() for block in its if block.counts_CG is not None])
        for name, its in groups.items()
        if settings.get("counts")
    }
    return values, counts, [len(block.values_CG) for block in blocks]


def test_a_split_asks_for_what_it_evaluates(split):
    asked = asked_of_split(split, Prediction(num_cells=7))
    assert asked.conditions == split.conditions("test")
    assert {target.num_cells for target in asked.targets} == {7}


def test_a_list_asks_for_its_own_numbers_of_unseen_targets_and_combinations(ask, screen, rows):
    asked = ask("GENE01,3", "GENE05+GENE02,2")
    values, _, _ = predict(screen, rows, asked)
    assert {name: len(its) for name, its in values.items()} == {
        "GENE01+ctrl": 3,
        "GENE02+GENE05": 2,
    }
    assert asked.notes == ["5 cells of 2 targets, as list.csv asks"]


def test_targets_that_the_model_has_learned_from_are_told(ask, split):
    target = split.conditions("train")[0]
    asked = ask(f"{target.removesuffix('+ctrl')},3", "GENE01,2")
    assert asked.notes[1] == f"1 of these targets are in train: {target}"


def test_every_cell_comes_from_a_control_cell_of_the_models_half(ask, screen, rows):
    values, _, _ = predict(screen, rows, ask("GENE01,30"))
    allowed = {row.tobytes() for row in 2 * screen.values(rows).toarray()}
    assert {row.tobytes() for row in values["GENE01+ctrl"]} <= allowed


def test_unknown_targets_stop_or_are_predicted_unchanged(ask, screen, rows):
    lines = ("GENE01,3", "NOGENE,2", "GENE02+NOGENE,2")
    with pytest.raises(
        InputError, match=r"list.csv names NOGENE\+ctrl, GENE02\+NOGENE, and the model of m lacks"
    ):
        ask(*lines)
    asked = ask(*lines, unknown_targets="no_change")
    assert asked.notes[-1] == (
        "predicted unchanged, the model of m lacks a gene: NOGENE+ctrl, GENE02+NOGENE"
    )
    values, _, _ = predict(screen, rows, asked, unknown_targets="no_change")
    controls = {row.tobytes() for row in screen.values(rows).toarray()}
    assert {row.tobytes() for row in values["NOGENE+ctrl"]} <= controls
    assert not {row.tobytes() for row in values["GENE01+ctrl"]} & controls


def test_the_size_of_blocks_changes_neither_values_nor_counts(ask, screen, rows, monkeypatch):
    asked = ask("GENE01,9", "GENE02,4")
    values, counts, sizes = predict(screen, rows, asked, batch_size=1, counts=True)
    assert sizes == [9, 4]
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 60)  # two cells
    again, counts_again, sizes = predict(screen, rows, asked, batch_size=1, counts=True)
    assert sizes == [2, 2, 2, 2, 1, 2, 2]
    for name in values:
        np.testing.assert_array_equal(again[name], values[name])
        np.testing.assert_array_equal(counts_again[name], counts[name])


def test_drawing_counts_changes_no_value_and_a_list_no_other_target(ask, screen, rows):
    asked = ask("GENE01,9", "GENE02,4")
    values, _, _ = predict(screen, rows, asked)
    with_counts, _, _ = predict(screen, rows, asked, counts=True)
    alone, _, _ = predict(screen, rows, ask("GENE02,4"))
    np.testing.assert_array_equal(with_counts["GENE01+ctrl"], values["GENE01+ctrl"])
    np.testing.assert_array_equal(alone["GENE02+ctrl"], values["GENE02+ctrl"])


def test_counts_have_the_depth_of_the_control_cells_that_cells_come_from(ask, screen, rows):
    asked = ask("GENE01,12")
    values, counts, _ = predict(screen, rows, asked, counts=True)
    depth = dict(
        zip(
            (row.tobytes() for row in 2 * screen.values(rows).toarray()),
            screen.counts(rows).sum(axis=1).A1,
            strict=True,
        )
    )
    expected = [depth[row.tobytes()] for row in values["GENE01+ctrl"]]
    assert counts["GENE01+ctrl"].sum(axis=1).tolist() == expected


def test_listed_depths_move_the_median(ask, screen, rows):
    settings = {"counts": True, "library_sizes": "listed"}
    asked = ask("GENE01,21,3000", "GENE02,21,700.5", **settings)
    _, counts, _ = predict(screen, rows, asked, **settings)
    assert np.median(counts["GENE01+ctrl"].sum(axis=1)) == 3000
    assert np.median(counts["GENE02+ctrl"].sum(axis=1)) == pytest.approx(700.5, abs=1)


def test_listed_depths_that_are_not_there_are_named(ask):
    with pytest.raises(InputError, match=r"gives no median_umi_per_cell for GENE02\+ctrl, but"):
        ask("GENE01,21,3000", "GENE02,21,", counts=True, library_sizes="listed")
