"""Every strategy on every back-end, through the loader."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from tests.data.cell_store.memory_source import source_of, stored, vocabularies_of
from vcpipe.config.loading import WEIGHTED, Loading
from vcpipe.data.loading.h5ad_reader import H5adReader
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Share
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.loading.zarr_reader import ZarrReader
from vcpipe.data.loading.zarr_writing import write_collection

NUM_CELLS = 150
STRATEGIES = ["streaming", "streaming_buffer", "block_shuffling", "random_sampling", *WEIGHTED]


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    counts = np.random.default_rng(0).poisson(0.4, (NUM_CELLS, 30))
    counts[:, 0] = 1 + np.arange(NUM_CELLS)  # tells cells apart
    labels = pd.DataFrame({"drug": [f"d{i % 3}" for i in range(NUM_CELLS)]})
    labels.index = [f"c{i}" for i in range(NUM_CELLS)]
    genes = [f"g{i}" for i in range(30)]
    cells = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), labels, pd.DataFrame(index=genes))
    cells.write_h5ad(folder / "cells.h5ad")
    h5ad = H5adReader([folder / "cells.h5ad"])
    write_collection(h5ad, folder / "cells.zarr", labels, genes, chunk_cells=16)
    source = source_of("one", {"rna": counts}, {"drug": labels["drug"].tolist()})
    store = stored(folder / "store", [source], vocabularies_of(rna=30), block_size=16)
    return {
        "h5ad": h5ad,
        "zarr": ZarrReader(folder / "cells.zarr"),
        "store": StoreReader(store),
    }


class FirstGene:
    def __init__(self, reader):
        self.reader = reader

    def batch(self, buffer, places, draw):
        rows = buffer.rows(places)
        return {"cells": rows.counts[rows.starts[:-1]].astype(np.int64) - 1}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("back_end", ["h5ad", "zarr", "store"])
def test_every_strategy_runs_on_every_back_end(readers, back_end, strategy):
    weighted = {"weight_by": ["drug"]} if strategy in WEIGHTED else {}
    config = Loading(strategy=strategy, fetch_factor=4, **weighted)
    loader = Loader(FirstGene(readers[back_end]), config, Share(0, 1, 8, 4), 0, 2)
    seen = np.concatenate([batch["cells"] for batch in loader.steps(0)])
    assert len(seen) == NUM_CELLS
    if not weighted:
        assert sorted(seen.tolist()) == list(range(NUM_CELLS))
    assert set(seen.tolist()) <= set(range(NUM_CELLS))
