import numpy as np
import pytest

from vcpipe.config.finetune import Perturbation
from vcpipe.data.order import BatchDraw
from vcpipe.data.perturbation_batches import PerturbationBatches, known_genes
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
    def batches(genes=None, cells=None, control_row=paired, **settings) -> PerturbationBatches:
        known = known_genes(
            screen, build_vocabulary(screen.genes if genes is None else genes, SPECIAL)
        )
        if cells is None:
            cells = np.arange(len(screen.cells))
        return PerturbationBatches(screen, known, cells, control_row, Perturbation(**settings))

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


def test_a_model_that_knows_no_target_is_an_error(make, screen):
    with pytest.raises(InputError, match="No cell is left to learn from"):
        make(genes=["GENE00", "GENE01"], cells=np.flatnonzero(screen.condition != "ctrl"))


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
