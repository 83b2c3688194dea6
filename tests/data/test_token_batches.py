import numpy as np
import pytest

from vcpipe.config.preprocess import Cells
from vcpipe.config.pretrain import MaskedValues
from vcpipe.data.store import open_store, write_store
from vcpipe.data.token_batches import TokenBatches, split_cells
from vcpipe.data.vocabulary import build_vocabulary


@pytest.fixture
def make(screen, tmp_path):
    vocabulary = build_vocabulary(screen.genes, ["<pad>", "<cls>", "<eoc>"])
    rows = np.arange(len(screen.cells))
    write_store(tmp_path / "store", [("tiny", screen, rows)], vocabulary, Cells(), {})
    store = open_store(tmp_path / "store")

    def batches(**settings) -> TokenBatches:
        return TokenBatches(store, vocabulary, MaskedValues(**settings), rows)

    return batches


def test_a_cell_begins_with_cls_and_ends_in_padding(make, generator):
    batches = make(max_seq_len=64)
    batch = batches.batch(np.arange(8), generator)
    assert (batch["genes"][:, 0] == batches.cls_id).all()
    assert (batch["values"][:, 0] == 0).all()
    assert (batch["genes"][~batch["real"]] == batches.pad_id).all()
    assert not (batch["genes"][batch["real"]] == batches.pad_id).any()


def test_values_are_bins_or_logarithms_as_asked(make, generator, screen):
    binned = make(max_seq_len=64).batch(np.arange(3), generator)
    logs = make(max_seq_len=64, input_style="log1p").batch(np.arange(3), generator)
    assert np.array_equal(binned["genes"], logs["genes"])
    assert binned["values"].max() == 50
    expected = screen.values(np.arange(1)).data
    np.testing.assert_allclose(logs["values"][0, 1:][logs["real"][0, 1:]], expected, rtol=1e-6)


def test_long_cells_are_sampled_and_gene_and_value_stay_together(make, generator):
    batches = make(max_seq_len=10)
    batch = batches.batch(np.arange(20), generator)
    assert batch["genes"].shape == (20, 10)
    for cell in range(20):
        genes, values = batches.detected(cell)
        held = dict(zip(genes, values, strict=True))
        real = batch["real"][cell, 1:]
        tokens = batch["genes"][cell, 1:][real]
        assert len(set(tokens)) == len(tokens)
        assert [held[gene] for gene in tokens] == batch["values"][cell, 1:][real].tolist()


def test_undetected_genes_fill_the_asked_share_with_zeros(make, generator):
    batches = make(max_seq_len=11, include_zero_genes=0.5)
    batch = batches.batch(np.arange(20), generator)
    for cell in range(20):
        detected = set(batches.detected(cell)[0])
        tokens = batch["genes"][cell, 1:][batch["real"][cell, 1:]]
        absent = [gene not in detected for gene in tokens]
        assert sum(absent) == min(5, 30 - len(detected))
        assert not batch["values"][cell, 1:][batch["real"][cell, 1:]][absent].any()


def test_validation_cells_are_never_trained_on(generator):
    train, val = split_cells(100, 0.1, generator)
    assert len(val) == 10
    assert sorted([*train, *val]) == list(range(100))
    assert len(split_cells(100, 0.001, generator)[1]) == 1
    assert len(split_cells(100, 0.0, generator)[1]) == 0


def test_genes_that_a_screen_did_not_measure_are_never_zeros(screen, tmp_path, generator):
    vocabulary = build_vocabulary(
        [*screen.genes, *(f"OTHER{i}" for i in range(50))], ["<pad>", "<cls>", "<eoc>"]
    )
    rows = np.arange(20)
    write_store(tmp_path / "store", [("tiny", screen, rows)], vocabulary, Cells(), {})
    config = MaskedValues(max_seq_len=60, include_zero_genes=0.9)
    batches = TokenBatches(open_store(tmp_path / "store"), vocabulary, config, rows)
    batch = batches.batch(rows, generator)
    shown = set(batch["genes"][batch["real"]]) - {batches.cls_id}
    assert shown == set(vocabulary.encode(screen.genes))
