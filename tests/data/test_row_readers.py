from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpipe.data import row_readers
from vcpipe.data.row_readers import CopiedRows, DenseFile, MemoryRows, copied_rows, spans, take
from vcpipe.errors import InputError

few = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture
def counts() -> sp.csr_matrix:
    counts = np.random.default_rng(0).poisson(0.4, (90, 7)).astype(np.float32)
    counts[40:55] = 0
    return sp.csr_matrix(counts)


@given(sizes=st.lists(st.integers(0, 9), max_size=40), most=st.integers(1, 30))
@few
def test_spans_follow_each_other_and_hold_no_more_than_allowed_or_one_row(sizes, most):
    parts = spans(np.cumsum(sizes), most)
    assert [row for start, stop in parts for row in range(start, stop)] == list(range(len(sizes)))
    for start, stop in parts:
        assert stop > start
        assert sum(sizes[start:stop]) <= most or stop == start + 1


def test_rows_without_anything_are_bounded_too(monkeypatch):
    monkeypatch.setattr(row_readers, "MOST_ROWS", 4)
    assert spans(np.zeros(10), 5) == [(0, 4), (4, 8), (8, 10)]


@pytest.mark.parametrize("gap", [0, 5, 10**6])
@pytest.mark.parametrize("most", [1, 20, 10**6])
def test_any_ascending_rows_are_taken(counts, monkeypatch, gap, most):
    monkeypatch.setattr(row_readers, "GAP", gap)
    reader = MemoryRows(counts)
    for rows in ([], [0], [89], [0, 1, 2, 50, 51, 89], np.arange(90), np.arange(0, 90, 7)):
        rows = np.array(rows, dtype=np.int64)
        found = take(reader, rows, most)
        assert found.shape == (len(rows), 7)
        assert (found != counts[rows]).nnz == 0


@pytest.mark.parametrize("chunks", [None, (4, 3), (100, 7), (90, 2)])
def test_dense_rows_are_read_across_blocks(counts, tmp_path, chunks):
    if chunks and chunks[0] > 90:
        chunks = (90, 7)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = {"chunks": chunks, "compression": "gzip"} if chunks else {}
        reader = DenseFile(file.create_dataset("X", data=counts.toarray(), **options))
        for rows in (slice(0, 90), slice(0, 1), slice(3, 5), slice(2, 13), slice(89, 90)):
            assert (reader[rows] != counts[rows]).nnz == 0


@pytest.mark.parametrize("most", [1, 20, 10**6])
def test_copied_rows_are_the_rows_in_any_order(counts, most):
    order = np.random.default_rng(1).permutation(90)
    with copied_rows(MemoryRows(counts), most) as reader:
        assert isinstance(reader, CopiedRows)
        np.testing.assert_array_equal(reader.starts, counts.indptr)
        assert (reader[order] != counts[order]).nnz == 0
        assert (take(reader, np.arange(0, 90, 4), most) != counts[::4]).nnz == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_copy_that_does_not_fit_says_where(counts):
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(InputError, match=r"does not fit into .*No space left.*TMPDIR"),
    ):
        CopiedRows(MemoryRows(counts), (full, full), 10)
