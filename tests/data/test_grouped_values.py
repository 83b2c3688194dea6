from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from vcpipe.data import grouped_values
from vcpipe.data.grouped_values import groups_of, joined, most_bytes, pick_groups


class SomeCells:
    """Values in memory, read as a screen's are."""

    def __init__(self, values: np.ndarray):
        self.rows = sp.csr_matrix(values.astype(np.float32))
        self.genes = np.arange(values.shape[1])

    def values(self, rows: np.ndarray) -> sp.csr_matrix:
        return self.rows[rows]


def picked(groups, rows, chosen, num_genes) -> np.ndarray:
    place_K = np.full(num_genes, -1, dtype=np.int32)
    place_K[chosen] = np.arange(len(chosen))
    out_RT = np.zeros((len(rows), len(chosen)), dtype=np.float32)
    pick_groups(groups, rows, place_K, out_RT)
    return out_RT


def test_values_come_back_bit_for_bit(screen):
    expected = screen.values(slice(None)).toarray()
    columns, rows = np.arange(len(screen.genes)), np.arange(len(screen.cells))
    groups = joined(list(groups_of(screen, columns, rows)))
    asked, chosen = np.array([7, 0, 119, 7]), np.array([3, 4, 29, 0])
    np.testing.assert_array_equal(
        picked(groups, asked, chosen, len(columns)), expected[np.ix_(asked, chosen)]
    )


def test_genes_that_the_model_does_not_know_are_not_held(screen):
    columns, rows = np.array([20, 2, 5]), np.array([50, 3, 110])
    groups = joined(list(groups_of(screen, columns, rows)))
    expected = screen.values(rows).toarray()[:, columns]
    np.testing.assert_array_equal(picked(groups, np.arange(3), np.arange(3), 3), expected)
    assert len(groups.genes) == np.count_nonzero(expected)


def test_parts_that_were_read_one_after_the_other_are_one(screen, monkeypatch):
    columns, rows = np.arange(len(screen.genes)), np.arange(len(screen.cells))
    whole = joined(list(groups_of(screen, columns, rows)))
    monkeypatch.setattr(grouped_values, "CHUNK", 7)
    parts = list(groups_of(screen, columns, rows))
    assert len(parts) > 10
    for name in whole.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(joined(parts), name), getattr(whole, name))


def test_cells_may_have_no_genes_or_more_distinct_values_than_a_byte_can_number(generator):
    values = generator.random((3, 700)).astype(np.float32)
    values[1] = 0
    values[2] = 1.5
    cells = SomeCells(values)
    groups = joined(list(groups_of(cells, np.arange(700), np.arange(3))))
    np.testing.assert_array_equal(picked(groups, np.arange(3), np.arange(700), 700), values)
    assert np.diff(groups.first_value).tolist() == [700, 0, 1]


def test_more_genes_than_two_bytes_can_number_take_four():
    values = np.zeros((2, 70_000), dtype=np.float32)
    values[0, [0, 65_535, 65_536, 69_999]] = [1, 2, 3, 2]
    values[1, 69_999] = 4
    groups = joined(list(groups_of(SomeCells(values), np.arange(70_000), np.arange(2))))
    assert groups.genes.dtype == np.int32
    np.testing.assert_array_equal(picked(groups, np.arange(2), np.arange(70_000), 70_000), values)


def test_memory_is_told_before_anything_is_read(screen):
    columns, rows = np.arange(len(screen.genes)), np.arange(40, 100)
    size = most_bytes(replace(screen, path=Path(screen.path)), rows)
    groups = joined(list(groups_of(screen, columns, rows)))
    assert groups.num_bytes <= size
    assert groups.genes.nbytes == 2 * screen.num_detected[rows].sum()


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(5)
