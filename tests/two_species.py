"""Cells of two species, whose genes have ids of their own, on their way to training."""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from tests.memory_source import MemorySource
from tests.prepared import Prepared
from vcpipe.config.cell_store import CellStore as StoreSettings
from vcpipe.config.preprocess import Fitting
from vcpipe.config.vocabulary import Vocabulary
from vcpipe.data.cell_sets import TRAIN
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.cell_store.writing import write_store
from vcpipe.data.corpus import Corpus
from vcpipe.data.corpus_names import Names
from vcpipe.data.corpus_to_store import to_store
from vcpipe.data.fitted_corpus import fit_corpus
from vcpipe.data.vocabulary_building import build_vocabularies

GENES = {
    "human": [f"GENE{number:02d}" for number in range(30)],
    "mouse": [f"Gene{number:02d}" for number in range(40)],
}
DATASETS = {species: f"{species}_atlas" for species in GENES}


def cells_of(species: str, num_cells: int = 60) -> MemorySource:
    """Cells of six kinds."""
    generator = np.random.default_rng(len(species) + len(GENES[species]))
    level_KG = generator.gamma(0.3, 8.0, (6, len(GENES[species])))
    counts = generator.poisson(level_KG[np.arange(num_cells) % 6])
    labels = pd.DataFrame({"batch": pd.Categorical([f"b{i % 2}" for i in range(num_cells)])})
    return MemorySource(
        *(DATASETS[species], [f"{species}{number}" for number in range(num_cells)]),
        *({"rna": sp.csr_matrix(counts)}, labels),
        feature_names={"rna": GENES[species]},
        species=species,
    )


def prepare_species(folder: Path, species: list[str] | None = None) -> Prepared:
    sources = [cells_of(name) for name in species or GENES]
    sets = [np.full(len(source), TRAIN, dtype=np.uint8) for source in sources]
    corpus, settings = Corpus(sources, sets, {}, False), Vocabulary()
    names = Names(build_vocabularies(sources, settings), settings)
    fitting = Fitting(filters={"min_genes": 0}, fit={"min_cells": 1})
    record = fit_corpus(corpus, names, fitting).record
    made, vocabularies, coverage = to_store(corpus, names, record)
    about = {
        "seen": {},
        "held_out": False,
        "vocabulary_digest": names.vocabularies.digest,
        "record_digest": record.digest,
        "coverage": coverage,
    }
    store = StoreSettings(group_by=["batch"])
    write_store(folder / "store", made, store, about, vocabularies=vocabularies)
    return Prepared(open_store(folder / "store"), names, record)
