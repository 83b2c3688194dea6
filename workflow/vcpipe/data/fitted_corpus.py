"""A corpus with its names looked up, and fitted on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcpipe.config.preprocess import Fitting
from vcpipe.config.vocabulary import Vocabulary as VocabularySettings
from vcpipe.data.corpus import Corpus
from vcpipe.data.feature_ids import feature_ids
from vcpipe.data.fitting import Fitted, fit
from vcpipe.data.sources.source import CellSource
from vcpipe.data.training_cells import CellsToFit
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.data.vocabulary_files import read_vocabularies, write_vocabularies
from vcpipe.files import read_json, write_json, writing


@dataclass(frozen=True)
class Names:
    """A folder of build_vocabulary: the names, and how those of sources are matched with them."""

    vocabularies: Vocabularies
    settings: VocabularySettings
    embeddings: Path | None = None  # folder of pretrained vectors of genes, where there are some


def read_names(folder: Path) -> Names:
    settings = read_json(folder / "settings.json", "the folder that build_vocabulary writes")
    return Names(
        read_vocabularies(folder),
        VocabularySettings.model_validate(settings),
        folder / "embeddings" if (folder / "embeddings").exists() else None,
    )


def write_names(folder: Path, names: Names) -> None:
    """What read_names reads, without the tables for people."""
    with writing(folder) as partial:
        write_vocabularies(partial, names.vocabularies)
        write_json(partial / "settings.json", names.settings.model_dump(mode="json"))


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
