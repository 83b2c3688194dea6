import numba
import numpy as np
import pytest
import scipy.sparse as sp

from vcpipe.data import sparse_rows
from vcpipe.data.sparse_rows import CLEAN, NO_COUNT, OUTSIDE, UNORDERED, inspect, log_rows


def found(values, indices, indptr=(0, 2, 4), num_columns=5, largest=100) -> int:
    return inspect(
        np.array(indptr), np.array(indices), np.array(values, dtype=float), num_columns, largest
    )


@pytest.mark.parametrize(
    ("values", "indices", "expected"),
    [
        ([1, 2, 3, 4], [0, 4, 0, 1], CLEAN),
        ([1, 2, 3, 4], [4, 0, 0, 1], UNORDERED),
        ([1, 2, 3, 4], [0, 4, 1, 1], UNORDERED),
        ([1, 0, 3, 4], [0, 4, 0, 1], UNORDERED),
        ([1, 2, 3, 4], [0, 5, 0, 1], OUTSIDE),
        ([1, 2, 3, 4], [0, -1, 0, 1], OUTSIDE),
        ([1, 2.5, 3, 4], [0, 4, 0, 1], NO_COUNT),
        ([1, np.nan, 3, 4], [0, 4, 0, 1], NO_COUNT),
        ([1, np.inf, 3, 4], [0, 4, 0, 1], NO_COUNT),
        ([1, -2, 3, 4], [0, 4, 0, 1], NO_COUNT),
        ([1, 101, 3, 4], [0, 4, 0, 1], NO_COUNT),
        # What must be put in order first is said first.
        ([1, 2.5, 3, 4], [4, 0, 0, 1], UNORDERED),
    ],
)
def test_faults_are_found_the_worst_first(values, indices, expected):
    assert found(values, indices) == expected


def test_rows_may_be_empty():
    assert found([], [], indptr=(0, 0, 0)) == CLEAN


def test_logarithms_are_those_of_numpy_for_small_and_large_counts(generator):
    counts = sp.csr_matrix(generator.poisson(40, (20, 30)).astype(np.float32))
    counts.data[::7] = 5000
    values = np.empty(counts.nnz, dtype=np.float32)
    log_rows(counts.indptr, counts.data, 1e4, values)
    totals = np.repeat(counts.toarray().astype(float).sum(axis=1), np.diff(counts.indptr))
    np.testing.assert_allclose(values, np.log1p(counts.data * 1e4 / totals), rtol=1e-7)


def test_loops_are_compiled_where_no_folder_keeps_them(monkeypatch):
    plain = numba.njit

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return plain(**options)

    monkeypatch.setattr(numba, "njit", njit)
    assert sparse_rows.compiled(lambda x: x + 1)(1) == 2
