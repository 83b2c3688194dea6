"""A corpus with its names looked up, and fitted on."""

import numpy as np

from vcpipe.config.preprocess import Fitting
from vcpipe.data.corpus import Corpus
from vcpipe.data.corpus_names import Names
from vcpipe.data.feature_ids import feature_ids
from vcpipe.data.fitting import Fitted, fit
from vcpipe.data.sources.source import CellSource
from vcpipe.data.training_cells import CellsToFit


def fit_corpus(corpus: Corpus, names: Names, config: Fitting) -> Fitted:
    """Fit on the training cells of all sources."""
    its = names.vocabularies
    cells = [
        CellsToFit(source, ids_of(source, names), sets)
        for source, sets in zip(corpus.sources, corpus.sets, strict=True)
    ]
    tokens = {
        one.axis(modality): its.of(modality, one.source.species).names()
        for one in cells
        for modality in one.feature_ids
    }
    special = its.special_tokens.names()
    about = {"cell_split": config.cell_split.model_dump(mode="json")}
    return fit(cells, tokens, special, its.digest, config.fit, config.filters, about)


def ids_of(source: CellSource, names: Names) -> dict[str, np.ndarray]:
    """By modality, the vocabulary's ids of a source's features."""
    found = feature_ids(source, names.vocabularies, names.settings)
    return {modality: ids for modality, (ids, _) in found.items()}
