import numpy as np
import pytest
import torch
from torch import nn

from vcpipe.config.splits import Split
from vcpipe.data.perturbation_batches import known_genes
from vcpipe.data.splits import draw_controls, draw_split
from vcpipe.data.vocabulary import build_vocabulary
from vcpipe.errors import InputError
from vcpipe.training.distributed import Process
from vcpipe.training.perturbation_scores import PerturbationScores, delta_pearson, discrimination

ALONE = Process(0, 1, torch.device("cpu"))
SPECIAL = ["<pad>", "<cls>", "<eoc>"]
OPTIONS = {"num_cells": 6, "max_seq_len": 12, "batch_size": 4, "seed": 3, "process": ALONE}


@pytest.fixture
def split(screen):
    table, _ = draw_split(screen, Split())
    sets = {"GENE03": "val", "GENE07": "train", "GENE11": "train", "GENE19": "test"}
    for gene, its in (sets | {"GENE23": "val"}).items():
        table.sets[f"{gene}+ctrl", ""] = its
    return table


@pytest.fixture
def known(screen):
    return known_genes(screen, build_vocabulary(screen.genes, SPECIAL))


class Knowing(nn.Module):
    """Says a profile of the perturbed gene's, whatever the control cell."""

    def __init__(self, profile_by_token: dict[int, dict[int, float]]):
        super().__init__()
        self.profiles, self.seen = profile_by_token, []

    def forward(self, genes_T, control_BT, flags_BT):
        self.seen.append((genes_T.tolist(), control_BT.clone()))
        (target,) = set(genes_T[flags_BT[0] == 1].tolist())
        its = self.profiles[target]
        return torch.tensor([its[token] for token in genes_T.tolist()]).expand_as(control_BT)


class Echo(nn.Module):
    """Says that nothing changes."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, genes_T, control_BT, flags_BT):
        self.calls += 1
        return control_BT


def profiles(scores, known, rows_PG) -> dict:
    tokens = known.token_ids.tolist()
    return {
        tokens[targets[0]]: dict(zip(tokens, row, strict=True))
        for targets, row in zip(scores.targets, rows_PG, strict=True)
    }


@pytest.fixture
def scores(screen, split, known):
    return PerturbationScores(screen, split, draw_controls(screen, 1), known, **OPTIONS)


def test_who_knows_the_answer_scores_1_and_who_has_it_mixed_up_less(scores, known):
    right = scores(Knowing(profiles(scores, known, scores.measured_PG)))
    assert right["val_delta_pearson"] == pytest.approx(1, abs=1e-5)
    assert right["val_discrimination"] == 1
    wrong = scores(Knowing(profiles(scores, known, scores.measured_PG[::-1])))
    assert wrong["val_delta_pearson"] < 0.5
    assert wrong["val_discrimination"] == 0


def test_predictions_that_are_no_numbers_have_no_score(scores, known):
    broken_PG = scores.measured_PG.copy()
    broken_PG[1, 5] = np.nan
    found = scores(Knowing(profiles(scores, known, broken_PG)))
    assert np.isnan(list(found.values())).all()


def test_the_mean_of_all_perturbations_says_nothing_of_any(scores, known):
    mean = np.tile(scores.measured_PG.mean(axis=0), (2, 1))
    assert scores(Knowing(profiles(scores, known, mean)))["val_discrimination"] == 0.5


def test_predictions_start_from_the_same_controls_of_models_every_time(scores, known, screen):
    model = Knowing(profiles(scores, known, scores.measured_PG))
    scores(model)
    first, model.seen = model.seen, []
    scores(model)
    assert all(
        genes == again and torch.equal(cells, others)
        for (genes, cells), (again, others) in zip(first, model.seen, strict=True)
    )
    assert max(len(genes) for genes, _ in first) <= 12
    controls = draw_controls(screen, 1)
    assert {controls[cell] for cell in screen.cells[scores.profiles.controls]} == {"model"}


def test_processes_share_the_cells_and_call_the_model_equally_often(screen, split, known):
    """7 cells in calls of at most 2: 4 for one process, 2 for each of two, 1 for each of eight."""
    options = OPTIONS | {"num_cells": 7, "batch_size": 2}

    def sums(world: int) -> tuple[np.ndarray, list[int]]:
        found, calls = [], []
        for rank in range(world):
            its = options | {"process": Process(rank, world, torch.device("cpu"))}
            scores = PerturbationScores(screen, split, draw_controls(screen, 1), known, **its)
            model = Echo()
            found.append(scores._sum(model, 0))
            calls.append(model.calls)
        return np.sum(found, axis=0), calls

    alone, calls = sums(1)
    for world in (2, 8):
        shared, each = sums(world)
        np.testing.assert_allclose(shared, alone, rtol=1e-6)
        assert len(set(each)) == 1
        assert each[0] * 4 == calls[0] * -(-4 // world)


def test_nothing_of_a_test_cell_has_a_part_in_it(scores, screen, split, known, monkeypatch):
    read = []
    values = type(screen).values
    monkeypatch.setattr(
        type(screen), "values", lambda self, rows: read.append(rows) or values(self, rows)
    )
    controls = draw_controls(screen, 1)
    its = PerturbationScores(screen, split, controls, known, **OPTIONS)
    its(Knowing(profiles(its, known, its.measured_PG)))
    cells = set(screen.cells[np.unique(np.concatenate(read))])
    assert not cells & set(screen.cells[screen.condition == "GENE19+ctrl"])
    assert not cells & {cell for cell, use in controls.items() if use == "scoring"}


def test_one_val_perturbation_is_not_enough(screen, split, known):
    split.sets["GENE23+ctrl", ""] = "unused"
    with pytest.raises(InputError, match="the split has 1 whose genes the model knows"):
        PerturbationScores(screen, split, draw_controls(screen, 1), known, **OPTIONS)


def test_scores_by_hand():
    measured = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]])
    # The perturbed gene's own value, however wrong, changes nothing.
    predicted = np.array([[99.0, 0.0, 4.0], [0.0, -99.0, 0.0]])
    assert delta_pearson(predicted, measured, [[0], [1]]) == pytest.approx([1.0, 0.0])
    assert discrimination(predicted, measured, [[0], [1]]).tolist() == [1.0, 1.0]
    # Beside gene 0: 101 from its own and 103 from the other; beside gene 1: 102 and 100.
    assert discrimination(predicted[::-1], measured, [[0], [1]]).tolist() == [1.0, 0.0]
