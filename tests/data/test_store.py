import json

import numpy as np
import pytest

from vcpipe.config.preprocess import Cells
from vcpipe.data.binning import bin_cell
from vcpipe.data.store import open_store, seen_controls, write_store
from vcpipe.data.vocabulary import build_vocabulary
from vcpipe.errors import InputError

SPECIAL = ["<pad>", "<cls>", "<eoc>"]


@pytest.fixture
def vocabulary(screen):
    return build_vocabulary(screen.genes, SPECIAL)


def write(path, screen, rows, vocabulary, config=None, chunk=2048):
    write_store(path, [("tiny", screen, rows)], vocabulary, config or Cells(), {}, chunk)
    return open_store(path)


def test_the_store_holds_the_counts_exactly(screen, vocabulary, counts, tmp_path):
    rows = np.arange(5, 100, 3)
    store = write(tmp_path / "store", screen, rows, vocabulary)
    names = np.array(list(vocabulary.ids))
    for cell, row in enumerate(rows):
        entries = store.entries(cell)
        held = dict(zip(names[store.genes[entries]], store.counts[entries], strict=True))
        expected = dict(zip(counts.var_names, counts.X[row].toarray().ravel(), strict=True))
        assert held == {gene: count for gene, count in expected.items() if count}
        assert store.totals[cell] == sum(expected.values())


def test_bins_are_those_of_the_cell(screen, vocabulary, tmp_path):
    store = write(tmp_path / "store", screen, np.arange(10), vocabulary)
    for cell in range(10):
        entries = store.entries(cell)
        assert np.array_equal(store.bins[entries], bin_cell(store.counts[entries], 51))


def test_the_store_does_not_depend_on_the_size_of_chunks(screen, vocabulary, tmp_path):
    rows = np.arange(len(screen.cells))
    write(tmp_path / "a", screen, rows, vocabulary)
    write(tmp_path / "b", screen, rows, vocabulary, chunk=7)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_genes_outside_the_vocabulary_are_left_out_but_counted(screen, counts, tmp_path):
    store = write(
        tmp_path / "store", screen, np.arange(4), build_vocabulary(screen.genes[:10], SPECIAL)
    )
    assert store.genes.max() < 10 + len(SPECIAL)
    assert store.totals.tolist() == counts.X[:4].sum(axis=1).A1.tolist()


def test_cells_with_few_genes_are_left_out(screen, vocabulary, counts, tmp_path):
    detected = counts.X.getnnz(axis=1)
    least = int(np.median(detected))
    store = write(tmp_path / "store", screen, np.arange(120), vocabulary, Cells(min_genes=least))
    assert len(store) == (detected >= least).sum()


def test_no_cell_left_is_an_error_and_leaves_nothing(screen, vocabulary, tmp_path):
    with pytest.raises(InputError, match="no cell is left"):
        write(tmp_path / "store", screen, np.arange(9), vocabulary, Cells(min_genes=31))
    assert not (tmp_path / "store").exists()


def test_a_damaged_store_is_refused(screen, vocabulary, tmp_path):
    write(tmp_path / "store", screen, np.arange(9), vocabulary)
    path = tmp_path / "store" / "bins.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="bytes long; rerun prepare_cells"):
        open_store(tmp_path / "store")


def test_the_manifest_names_what_the_store_was_made_of(screen, vocabulary, tmp_path):
    store = write(tmp_path / "store", screen, np.arange(9), vocabulary)
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert manifest == store.manifest
    assert manifest["vocabulary_digest"] == vocabulary.digest
    assert manifest["datasets"] == {"tiny": screen.data_digest}
    assert manifest["num_cells"] == 9


def test_the_digest_follows_which_cells_entered(screen, vocabulary, tmp_path):
    one = write(tmp_path / "one", screen, np.arange(0, 9), vocabulary)
    other = write(tmp_path / "other", screen, np.arange(1, 10), vocabulary)
    assert one.manifest["data_digest"] != other.manifest["data_digest"]
    seen = {"condition": ["ctrl"], "cell_type": ["unknown"], "batch": ["b0", "b1"]}
    assert one.manifest["seen"] == {screen.data_digest: seen | {"controls": "ff80000000"}}


def test_the_manifest_says_which_control_cells_are_inside(screen, vocabulary, tmp_path):
    store = write(tmp_path / "store", screen, np.array([3, 4, 39, 77]), vocabulary)
    seen = store.manifest["seen"][screen.data_digest]
    assert seen_controls(seen, screen).tolist() == [3, 4, 39]
