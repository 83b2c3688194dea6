import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse as sp

from tests.memory_source import MemorySource
from vcpipe.config.fitting import Filters, Fit
from vcpipe.data.fitting import fit
from vcpipe.data.preprocessing_record import kept_ids, read_record, rounded
from vcpipe.data.training_cells import CellsToFit
from vcpipe.errors import InputError

GENES = ["<cls>", "A", "B", "C", "D", "E"]


@pytest.fixture
def record():
    counts = np.array([[3, 0, 1, 0], [1, 0, 2, 7], [2, 1, 0, 0], [4, 0, 1, 0]])
    source = MemorySource("a", list("wxyz"), {"rna": sp.csr_matrix(counts)})
    part = CellsToFit(source, {"rna": np.array([1, 2, 4, 5])}, np.zeros(4, dtype=np.uint8))
    config = Fit(min_cells=2, normalize=None, num_bin_edges=3)
    return fit([part], {"rna human": GENES}, ["<cls>"], "v1", config, Filters()).record


def test_a_record_comes_back_as_it_was_written(record, tmp_path):
    record.write(tmp_path / "record.json")
    found = read_record(tmp_path / "record.json")
    assert found == record
    assert found.digest == record.digest
    assert found.fit == Fit(min_cells=2, normalize=None, num_bin_edges=3)
    assert found.filters == Filters()
    np.testing.assert_array_equal(found.gene_medians("human"), [np.nan, 2.5, 1.0, np.nan, 1.0, 7.0])
    np.testing.assert_allclose(np.expm1(found.bin_edges), [1, 2, 4])


def test_dropped_genes_lose_their_id(record):
    assert record.is_kept("rna", "human").tolist() == [True, True, False, False, True, False]
    assert record.dropped["rna human"] == {"min_cells": 3, "min_gene_counts": 0}
    ids = kept_ids(record, "rna", "human", np.array([5, 4, -1, 2, 1, 3]), "v1")
    assert ids.tolist() == [-1, 4, -1, -1, 1, -1]
    assert ids.dtype == np.int32


def test_another_vocabulary_is_refused_with_both_digests(record):
    with pytest.raises(InputError, match=r"has the digest v2, .* with the vocabulary v1"):
        kept_ids(record, "rna", "human", np.array([1]), "v2")


def test_cells_that_the_record_knows_nothing_of_are_refused(record):
    with pytest.raises(InputError, match="was fitted on rna human, not on rna mouse"):
        kept_ids(record, "rna", "mouse", np.array([1]), "v1")
    with pytest.raises(InputError, match="was fitted on rna human, not on atac"):
        record.is_kept("atac", "human")


def test_a_changed_file_is_refused(record, tmp_path):
    path = tmp_path / "record.json"
    record.write(path)
    written = json.loads(path.read_text())
    for change, words in (
        ({"num_cells": 5}, "was changed after it was written"),
        ({"format": 0}, "has format 0, not 1"),
        ({"more": 1}, "is incomplete"),
    ):
        path.write_text(json.dumps(written | change))
        with pytest.raises(InputError, match=words):
            read_record(path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="has format None"):
        read_record(path)
    with pytest.raises(InputError, match=r"does not exist; expected the record\.json"):
        read_record(tmp_path / "absent.json")


def test_the_digest_is_of_what_was_fitted_and_not_of_the_files(record):
    assert dataclasses.replace(record, sources={"b": ["x"]}).digest == record.digest
    assert dataclasses.replace(record, vocabulary_digest="v2").digest != record.digest


def test_numbers_keep_ten_digits():
    assert rounded(np.array([1 / 3, 12345678.901234, np.nan])) == [0.3333333333, 12345678.9, None]
