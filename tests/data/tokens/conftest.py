"""Small cells with tied counts, as tokenizers take them from the store."""

from collections.abc import Callable

import numpy as np
import pytest

from vcpipe.config.fitting import Fit
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.packing import Specials, Tokens

NUM_GENES, NUM_CELLS = 200, 20


@pytest.fixture
def rows() -> Rows:
    """20 cells of some 120 genes with ids from 3, most counts tied; the last cell is empty."""
    generator = np.random.default_rng(5)
    counts_BG = generator.poisson(generator.gamma(0.8, 2.0, NUM_GENES), (NUM_CELLS, NUM_GENES))
    counts_BG[0, :5] = [70, 3000, 5000, 5000, 5000]
    counts_BG[-1] = 0
    lengths = (counts_BG > 0).sum(axis=1)
    return Rows(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        (counts_BG.nonzero()[1] + 3).astype(np.int32),
        counts_BG[counts_BG > 0].astype(np.uint32),
        counts_BG.sum(axis=1).astype(np.uint64) + 7,
        generator.integers(0, 2**63, NUM_CELLS).astype(np.uint64),
    )


@pytest.fixture
def pick() -> Callable[[Rows, list[int]], Rows]:
    """Some cells of rows, in the order that is asked for."""

    def pick(rows: Rows, cells: list[int]) -> Rows:
        parts = [slice(rows.starts[cell], rows.starts[cell + 1]) for cell in cells]
        lengths = [part.stop - part.start for part in parts]
        return Rows(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate([rows.ids[part] for part in parts]),
            np.concatenate([rows.counts[part] for part in parts]),
            rows.totals[cells],
            rows.keys[cells],
        )

    return pick


@pytest.fixture
def special() -> Specials:
    return Specials(cls_id=0, pad_id=1, mask_id=2, cls_value=0.0, pad_value=-2.0, mask_value=-1.0)


@pytest.fixture
def fitted() -> Fitted:
    medians = np.random.default_rng(6).gamma(2.0, 2.0, NUM_GENES + 3)
    medians[:3] = np.nan
    return Fitted(Fit(), gene_medians=medians, bin_edges=np.linspace(2.0, 7.0, 51))


@pytest.fixture
def cells_of() -> Callable[[Tokens], dict[int, list[tuple[int, float]]]]:
    """Tokens by the key of their cell."""

    def cells_of(tokens: Tokens) -> dict[int, list[tuple[int, float]]]:
        pairs = list(zip(tokens.genes.tolist(), tokens.values.tolist(), strict=True))
        bounds = zip(tokens.keys, tokens.starts[:-1], tokens.starts[1:], strict=True)
        return {int(key): pairs[start:stop] for key, start, stop in bounds}

    return cells_of
