"""A small matrix that both AnnData back-ends are asked for, and what they should answer."""

from concurrent.futures import ThreadPoolExecutor

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

NUM_CELLS, NUM_GENES = 60, 40


def small_cells(seed: int = 0) -> ad.AnnData:
    """Sparse counts with cells and genes that have none, and labels that are missing."""
    generator = np.random.default_rng(seed)
    counts = generator.poisson(0.3, (NUM_CELLS, NUM_GENES)) * generator.integers(
        1, 400, (NUM_CELLS, NUM_GENES)
    )
    counts[[0, 7, 8, 59]] = 0
    counts[:, 5] = 0
    numbers = np.arange(NUM_CELLS)
    drug = np.array(["aspirin", "DMSO", None], dtype=object)[numbers % 3]
    obs = pd.DataFrame(
        {
            "drug": pd.Categorical(drug, categories=["unseen", "DMSO", "aspirin"]),
            "line": np.where(numbers % 10 == 0, "nan", np.where(numbers < 30, "A549", "K562")),
            "dose": numbers % 2,
            "share": numbers / 7,
        },
        index=[f"cell{number:02d}" for number in numbers],
    )
    var = pd.DataFrame(index=[f"gene{number:02d}" for number in range(NUM_GENES)])
    return ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs, var)


def assert_rows(rows, counts: np.ndarray) -> None:
    """The rows are those of a dense matrix, and keep what Rows promises."""
    assert rows.starts.dtype == np.int64
    assert rows.ids.dtype == np.int32
    assert rows.counts.dtype == np.uint32
    assert rows.totals.dtype == np.uint64
    assert rows.keys.dtype == np.uint64
    assert len(rows) == len(counts)
    found = np.zeros(counts.shape, dtype=np.int64)
    for cell in range(len(rows)):
        its = slice(rows.starts[cell], rows.starts[cell + 1])
        assert (np.diff(rows.ids[its]) > 0).all()
        assert (rows.counts[its] > 0).all()
        found[cell, rows.ids[its]] = rows.counts[its]
    assert np.array_equal(found, counts)
    assert np.array_equal(rows.totals, counts.sum(axis=1).astype(np.uint64))


def rows_at(reader, positions):
    positions = np.asarray(positions, dtype=np.int64)
    return reader.read(positions).rows(np.arange(len(positions)))


def read_in_threads(reader, num_positions: int) -> list:
    """What eight threads are given that ask at once, for positions of their own."""

    def ask(seed):
        generator = np.random.default_rng(seed)
        positions = generator.integers(0, len(reader), num_positions)
        buffer = reader.read(positions)
        places = generator.permutation(num_positions)
        return positions[places], buffer.rows(places)

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(ask, range(24)))
