"""A screen on its way to training, in one call: names, record and store."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vcpipe.config.cell_store import CellStore as StoreSettings
from vcpipe.config.preprocess import Fitting
from vcpipe.config.vocabulary import Vocabulary
from vcpipe.data.cell_sets import LEFT_OUT, TRAIN
from vcpipe.data.cell_store.reading import CellStore, open_store
from vcpipe.data.cell_store.writing import write_store
from vcpipe.data.corpus import Corpus
from vcpipe.data.corpus_names import Names
from vcpipe.data.corpus_to_store import to_store
from vcpipe.data.fitted_corpus import fit_corpus
from vcpipe.data.preprocessing_record import PreprocessingRecord
from vcpipe.data.screen import Screen
from vcpipe.data.seen import seen_of
from vcpipe.data.sources.screens import ScreenCells
from vcpipe.data.vocabulary_building import build_vocabularies


class Prepared(NamedTuple):
    store: CellStore
    names: Names
    record: PreprocessingRecord


def prepare(
    folder: Path, screen: Screen, rows: np.ndarray | None = None, genes: list[str] | None = None
) -> Prepared:
    """Some cells of a screen, with the vocabulary of its genes or of others."""
    sets = np.full(len(screen.cells), TRAIN if rows is None else LEFT_OUT, dtype=np.uint8)
    rows = np.arange(len(screen.cells)) if rows is None else rows
    sets[rows] = TRAIN
    corpus = Corpus(
        [ScreenCells(screen)], [sets], {screen.data_digest: seen_of(screen, rows)}, True
    )
    folder.mkdir(parents=True, exist_ok=True)
    settings = Vocabulary()
    if genes is not None:
        given = folder / "given.json"
        tokens = {"<cls>": 0, "<pad>": 1}
        given.write_text(json.dumps(tokens | {gene: 2 + i for i, gene in enumerate(genes)}))
        settings = Vocabulary(genes=str(given), min_gene_match=0.01)
    names = Names(build_vocabularies(corpus.sources, settings), settings)
    record = fit_corpus(corpus, names, Fitting()).record
    sources, vocabularies, coverage = to_store(corpus, names, record)
    about = {
        "seen": corpus.seen,
        "held_out": True,
        "vocabulary_digest": names.vocabularies.digest,
        "record_digest": record.digest,
        "coverage": coverage,
    }
    write_store(folder / "store", sources, StoreSettings(), about, vocabularies=vocabularies)
    return Prepared(open_store(folder / "store"), names, record)
