"""Our bins beside those of the real scgpt 0.2.4, for the same draws of its global generator."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from vcpipe.data.binning import bin_values, quantile_bins
from vcpipe.data.rows import Rows

pytestmark = pytest.mark.upstream

SEED = 11


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    """60 cells of few to many counts, 400 genes; no cell is empty."""
    generator = np.random.default_rng(0)
    depth = np.repeat([0.5, 3.0, 40.0, 2000.0], 15)[:, None]
    counts = generator.poisson(generator.gamma(0.4, 2.0, 400) * depth).astype(np.float32)
    counts[:, 0] += 1
    scaled = np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True)))
    layers = {"logarithms": sp.csr_matrix(scaled.astype(np.float32))}
    return ad.AnnData(sp.csr_matrix(counts), layers=layers)


@pytest.fixture(scope="module")
def theirs(scgpt, cells) -> dict[str, np.ndarray]:
    found, preprocess = {}, scgpt.preprocess
    plain = {"normalize_total": False, "log1p": False}
    for n_bins in (2, 10, 51):
        for key in ("X", "logarithms"):
            found[f"{key}_{n_bins}"] = binned(
                cells, preprocess.Preprocessor(use_key=key, binning=n_bins, **plain)
            )
        seed_scgpt()
        rows = [preprocess.binning(row, n_bins) for row in cells.X.toarray()]
        found[f"row_{n_bins}"] = np.stack(rows)
    # Its own normalisation, beside which our bins of counts are held.
    normalising = preprocess.Preprocessor(use_key="X", normalize_total=1e4, log1p=True, binning=51)
    return found | {"normalised_51": binned(cells, normalising)}


def binned(cells: ad.AnnData, preprocessor) -> np.ndarray:
    cells = cells.copy()
    seed_scgpt()
    preprocessor(cells)
    return cells.layers["X_binned"]


def seed_scgpt() -> None:
    # It draws from numpy's global generator.
    np.random.seed(SEED)  # noqa: NPY002


@pytest.fixture(scope="module")
def rows(cells) -> Rows:
    counts = cells.X
    return Rows(
        counts.indptr.astype(np.int64),
        counts.indices.astype(np.int32),
        counts.data.astype(np.uint32),
        np.asarray(counts.sum(axis=1)).ravel().astype(np.uint64),
        np.arange(cells.n_obs, dtype=np.uint64),
    )


@pytest.fixture(scope="module")
def drawn(rows) -> np.ndarray:
    # scGPT draws a number for each value, row after row, from numpy's global generator.
    return np.random.RandomState(SEED).random_sample(len(rows.ids))


def dense(bins, rows, cells) -> np.ndarray:
    return sp.csr_matrix((bins, rows.ids, rows.starts), shape=cells.shape).toarray()


@pytest.mark.parametrize("n_bins", [2, 10, 51])
def test_bins_of_counts_are_scgpts(cells, rows, drawn, theirs, n_bins):
    ours = dense(quantile_bins(rows, n_bins, drawn), rows, cells)
    assert np.array_equal(ours, theirs[f"X_{n_bins}"])
    assert np.array_equal(ours, theirs[f"row_{n_bins}"])


@pytest.mark.parametrize("n_bins", [2, 10, 51])
def test_bins_of_logarithms_are_scgpts(cells, rows, drawn, theirs, n_bins):
    values = cells.layers["logarithms"].data
    ours = np.concatenate(
        [
            bin_values(values[start:stop], n_bins, drawn[start:stop])
            for start, stop in zip(rows.starts[:-1], rows.starts[1:], strict=True)
        ]
    )
    assert np.array_equal(dense(ours, rows, cells), theirs[f"logarithms_{n_bins}"])


def test_bins_of_counts_are_scgpts_of_normalised_values(cells, rows, drawn, theirs):
    """But for edges that fall on a value, where a logarithm is rounded to another side."""
    differs = dense(quantile_bins(rows, 51, drawn), rows, cells) != theirs["normalised_51"]
    print(f"{differs.sum()} of {len(rows.ids)} bins differ")
    assert differs.sum() <= 1e-3 * len(rows.ids)


def test_our_middle_bin_is_one_that_scgpt_may_draw(cells, rows, theirs):
    middle = dense(quantile_bins(rows, 51), rows, cells)
    lowest = dense(quantile_bins(rows, 51, np.array([1 - 2**-53])), rows, cells)
    highest = dense(quantile_bins(rows, 51, np.array([0.0])), rows, cells)
    for bins in (middle, theirs["X_51"]):
        assert ((lowest <= bins) & (bins <= highest)).all()
