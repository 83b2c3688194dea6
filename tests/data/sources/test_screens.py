import numpy as np
import pytest
import scipy.sparse as sp

from vcpipe.data.sources import screens
from vcpipe.data.sources.screens import ScreenCells


@pytest.mark.parametrize("few_entries", [1, 100, 2**21])
def test_a_converted_screen_is_a_source_of_its_raw_counts(screen, monkeypatch, few_entries):
    monkeypatch.setattr(screens, "ENTRIES_PER_CHUNK", few_entries)
    source = ScreenCells(screen)
    chunks = list(source.chunks())
    rows = np.concatenate([chunk.rows for chunk in chunks])
    counts = sp.vstack([chunk.counts["rna"] for chunk in chunks])
    assert (counts != screen.counts(slice(None))).nnz == 0
    assert source.names(rows).tolist() == screen.cells.tolist()
    assert (source.dataset, source.species) == ("tiny", "human")
    assert source.data_digest == screen.data_digest
    assert source.features["rna"].names.tolist() == screen.genes.tolist()


def test_only_the_wanted_cells_of_a_screen_are_given(screen):
    wanted = np.arange(len(screen.cells)) % 7 == 2
    (chunk,) = ScreenCells(screen).chunks(wanted)
    np.testing.assert_array_equal(chunk.rows, np.flatnonzero(wanted))
    assert (chunk.counts["rna"] != screen.counts(np.flatnonzero(wanted))).nnz == 0


def test_labels_of_a_screen_are_categories(screen):
    labels = ScreenCells(screen).labels
    assert list(labels) == ["condition", "batch", "cell_type"]
    for label in labels:
        assert labels[label].tolist() == getattr(screen, label).tolist()
        assert labels[label].dtype == "category"
