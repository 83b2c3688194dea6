from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vcpipe.config.finetune import Perturbation
from vcpipe.config.loading import Loading
from vcpipe.data.grouped_values import groups_of, joined
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Share
from vcpipe.data.order import BatchDraw
from vcpipe.data.perturbation_batches import PerturbationBatches, ValuesInMemory, known_genes
from vcpipe.data.vocabulary import build_vocabulary
from vcpipe.errors import InputError

SPECIAL = ["<pad>", "<cls>", "<eoc>"]


@pytest.fixture
def paired(screen) -> np.ndarray:
    """Each perturbed cell beside one of two controls, controls beside themselves."""
    rows = np.arange(len(screen.cells))
    return np.where(screen.condition == "ctrl", rows, 5 + rows % 2)


def made(batches: PerturbationBatches, cells: np.ndarray, draw: BatchDraw) -> dict:
    return batches.batch(batches.reader.read(cells), np.arange(len(cells)), draw)


@pytest.fixture
def make(screen, paired):
    def batches(
        genes=None, cells=None, control_row=paired, screen=screen, **settings
    ) -> PerturbationBatches:
        known = known_genes(
            screen, build_vocabulary(screen.genes if genes is None else genes, SPECIAL)
        )
        if cells is None:
            cells = np.arange(len(screen.cells))
        config = Perturbation(**{"control_partners": "paired_once"} | settings)
        pool = np.array([5, 6, 7, 8])
        return PerturbationBatches(screen, known, cells, control_row, config, pool)

    return batches


def test_the_flag_stands_at_the_perturbed_gene_and_nowhere_else(make, screen):
    batches = make()
    batch = made(batches, np.arange(len(batches.cells)), BatchDraw(0, 0))
    for row, condition in enumerate(batches.condition):
        expected = (screen.genes == condition.removesuffix("+ctrl")).astype(int)
        assert np.array_equal(batch["flags"][row], expected)


def test_perturbed_values_are_those_of_the_cell(make, screen):
    batches = make()
    batch = made(batches, np.array([50, 3]), BatchDraw(0, 0))
    assert np.array_equal(batch["perturbed"], screen.values(np.array([50, 3])).toarray())


def test_each_cell_stands_beside_the_control_of_its_pair(make, screen, paired):
    cells = np.arange(40, 100)
    batches = make(cells=cells)
    positions = np.array([59, 0, 7, 7])
    batch = made(batches, positions, BatchDraw(0, 0))
    expected = screen.values(slice(None)).toarray()
    np.testing.assert_array_equal(batch["perturbed"], expected[cells[positions]])
    np.testing.assert_array_equal(batch["control"], expected[paired[cells[positions]]])


def test_a_control_cell_stands_beside_itself(make):
    batch = made(make(), np.arange(10), BatchDraw(0, 0))
    assert np.array_equal(batch["control"], batch["perturbed"])


def test_the_batchs_targets_are_always_among_the_sampled_genes(make):
    batches = make(max_seq_len=8)
    for epoch in range(20):
        batch = made(batches, np.arange(30, 120), BatchDraw(0, epoch))
        assert batch["genes"].shape == (8,)
        assert (batch["flags"].sum(axis=1) == (batches.condition[30:120] != "ctrl")).all()


def test_by_chance_most_flags_are_lost(make):
    batches = make(max_seq_len=8, always_sample_targets=False)
    cells = np.arange(40, 120)
    seen = [made(batches, cells, BatchDraw(0, epoch))["flags"].sum() for epoch in range(20)]
    assert np.mean(seen) / 80 == pytest.approx(8 / 30, abs=0.12)


def test_all_cells_of_a_batch_share_their_genes_and_values_stay_with_them(make, screen):
    batches = make(max_seq_len=8)
    batch = made(batches, np.array([60]), BatchDraw(0, 0))
    names = np.array([*SPECIAL, *sorted(screen.genes)])[batch["genes"]]
    columns = [screen.genes.tolist().index(name) for name in names]
    assert np.array_equal(batch["perturbed"], screen.values(np.array([60])).toarray()[:, columns])


def test_genes_unknown_to_the_model_are_not_shown_to_it(make):
    batches = make(genes=[f"GENE{i:02d}" for i in range(20)])
    batch = made(batches, np.arange(5), BatchDraw(0, 0))
    assert batch["genes"].shape == (20,)
    assert batches.unusable == ["GENE23+ctrl"]
    assert "GENE23+ctrl" not in batches.condition


@pytest.mark.parametrize("first", [0, 40])
def test_a_model_that_knows_no_target_is_an_error(make, screen, first):
    """Also where control cells are left, from which nothing of perturbations is learned."""
    assert (screen.condition[:40] == "ctrl").all()
    with pytest.raises(InputError, match=r"No perturbed cell is left.*GENE03\+ctrl"):
        make(genes=["GENE00", "GENE01"], cells=np.arange(first, len(screen.cells)))


def test_a_cell_that_is_paired_with_nobody_is_never_shown(make, paired):
    with pytest.raises(AssertionError):
        make(control_row=np.where(np.arange(len(paired)) == 3, -1, paired))


def test_half_a_combination_is_no_single_perturbation(screen):
    names = screen.genes[screen.genes != "GENE07"]
    known = known_genes(screen, build_vocabulary(names, SPECIAL))
    assert known.targets("GENE03+GENE11") == [known.position["GENE03"], known.position["GENE11"]]
    assert not known.flags("GENE03+GENE07")
    assert known.targets("GENE03+GENE07") == []
    assert known.flags("ctrl")


def test_partners_drawn_anew_are_of_the_pool_and_others_in_the_next_epoch(make, screen):
    batches = make(control_partners="redrawn")
    expected = screen.values(slice(None)).toarray()
    cells = np.arange(40, 120)

    def partners(epoch: int) -> list[int]:
        controls = made(batches, cells, BatchDraw(0, epoch))["control"]
        (rows,) = np.nonzero((expected[5:9] == controls[:, None]).all(axis=2).any(axis=0))
        assert len(rows)
        return [int(np.flatnonzero((expected[5:9] == one).all(axis=1))[0]) + 5 for one in controls]

    first, second = partners(0), partners(1)
    assert first != second
    assert first == partners(0)
    # Batches alternate: odd rows are b1.
    assert [row % 2 for row in first] == [cell % 2 for cell in cells]
    assert set(first) == {5, 6, 7, 8}
    assert set(batches.rows()) >= {*first, *second, *batches.cells}


def test_without_controls_only_perturbed_cells_are_learned_from(make, screen):
    batches = make(include_controls=False)
    np.testing.assert_array_equal(batches.cells, np.flatnonzero(screen.condition != "ctrl"))
    assert (made(batches, np.arange(80), BatchDraw(0, 0))["flags"].sum(axis=1) == 1).all()


def test_an_epoch_tells_how_often_the_model_saw_what_was_perturbed(make):
    always, by_chance = make(max_seq_len=8), make(max_seq_len=8, always_sample_targets=False)
    shares = []
    for batches in (always, by_chance):
        flags = [
            made(batches, np.arange(30, 120), BatchDraw(0, 3, step))["flags"] for step in range(9)
        ]
        # Held-out cells do not count.
        made(batches, np.arange(30, 120), BatchDraw(0, 3, 0, 0, 4))
        shares.append(np.sum(flags) / (9 * 80))
        assert batches.notes_of_epoch(2) == []
        (note,) = batches.notes_of_epoch(3)
        assert note.endswith(f"in {shares[-1]:.1%} of the examples")
    assert shares[0] == 1
    assert 0.1 < shares[1] < 0.5


def test_half_a_combination_counts_as_not_seen(make, screen):
    both = screen.condition == "GENE03+ctrl"
    combined = replace(screen, condition=np.where(both, "GENE03+GENE11", screen.condition))
    settings = {"max_seq_len": 15, "always_sample_targets": False}
    batches = make(cells=np.flatnonzero(both), screen=combined, **settings)
    shown = [
        made(batches, np.arange(1), BatchDraw(0, 0, step))["flags"].sum() for step in range(40)
    ]
    assert set(shown) == {0, 1, 2}
    (note,) = batches.notes_of_epoch(0)
    assert f"{shown.count(2) / 40:.1%} of the examples" in note


def test_perturbations_of_few_cells_are_named(make, screen):
    batches = make()
    (note,) = batches.notes(17)
    assert note.startswith("5 perturbations have fewer cells than a batch (17): GENE03+ctrl")
    assert batches.notes(16) == []


def test_every_cell_of_a_perturbation_of_few_cells_is_seen_in_an_epoch(make, screen):
    """scGPT leaves the last batch out; here cells of all perturbations share batches."""
    cells = np.concatenate([np.arange(40, 43), np.arange(60, 120)])
    batches = make(cells=cells)
    loader = Loader(batches, Loading(), Share(0, 1, 32, 256), seed=0)
    sizes = [len(batch["flags"]) for batch in loader.steps(epoch=0)]
    assert sum(sizes) == 63
    flagged = sum(batch["flags"][:, 3].sum() for batch in loader.steps(epoch=0))
    assert flagged == (batches.condition == "GENE03+ctrl").sum() == 3


def test_values_in_memory_make_the_same_batches(make, screen):
    for settings in ({}, {"control_partners": "redrawn", "max_seq_len": 12}):
        on_disk, held = make(**settings), make(genes=screen.genes[3:24], **settings)
        for batches in (on_disk, held):
            expected = made(batches, np.arange(30, 60), BatchDraw(0, 1))
            rows, known = batches.rows(), batches.known
            groups = joined(list(groups_of(screen, known.columns, rows)))
            batches.values = ValuesInMemory(groups, rows, known)
            again = made(batches, np.arange(30, 60), BatchDraw(0, 1))
            assert again.keys() == expected.keys()
            for name, array in expected.items():
                np.testing.assert_array_equal(again[name], array)


def test_weights_are_those_of_the_cells_condition_and_1_where_it_has_none(screen, paired):
    known = known_genes(screen, build_vocabulary(screen.genes[4:], SPECIAL))
    table = np.arange(60, dtype=np.float64).reshape(2, 30)
    weights = pd.DataFrame(table, index=["GENE07+ctrl", "GENE11+ctrl"], columns=screen.genes)
    batches = PerturbationBatches(
        *(screen, known, np.arange(len(screen.cells)), paired, Perturbation(max_seq_len=8)),
        pool=np.array([5, 6]),
        weights=weights,
    )
    cells = [np.flatnonzero(batches.condition == f"GENE{n}+ctrl")[0] for n in ("11", "07", "19")]
    batch = made(batches, np.array(cells), BatchDraw(0, 0))
    columns = known.columns[np.searchsorted(known.token_ids, batch["genes"])]
    assert len(columns) == 8
    assert np.array_equal(batch["weights"], [table[1, columns], table[0, columns], np.ones(8)])


def test_genes_without_a_token_can_be_shown_as_pad_and_flagged(screen):
    names = screen.genes[~np.isin(screen.genes, ["GENE07", "GENE08"])]
    vocabulary = build_vocabulary(names, SPECIAL)
    known = known_genes(screen, vocabulary, unknown="pad")
    assert known.columns.tolist() == list(range(30))
    unknown = np.isin(screen.genes, ["GENE07", "GENE08"])
    assert (known.token_ids[unknown] == vocabulary.ids["<pad>"]).all()
    assert np.array_equal(known.token_ids[~unknown], vocabulary.encode(names))
    assert known.targets("GENE03+GENE07") == [3, 7]
