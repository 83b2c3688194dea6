"""What fit_preprocessing learns of a corpus: a record for each species, and how cells are split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcpipe.config.fitting import CellSplit
from vcpipe.config.preprocess import Fitting
from vcpipe.config.vocabulary import Vocabulary as VocabularySettings
from vcpipe.data.cell_store.writing import SourceToStore, StoreVocabulary
from vcpipe.data.corpus import Corpus
from vcpipe.data.feature_ids import feature_ids
from vcpipe.data.fitting import Fitted, fit
from vcpipe.data.preprocessing_record import PreprocessingRecord, kept_ids, read_record
from vcpipe.data.sources.source import MODALITIES
from vcpipe.data.training_cells import CellsToFit
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.data.vocabulary_files import read_vocabularies
from vcpipe.files import digest, read_json, write_json


@dataclass(frozen=True)
class Names:
    """A folder of build_vocabulary: the names, and how those of sources are matched with them."""

    vocabularies: Vocabularies
    settings: VocabularySettings

    def vocabulary(self, modality: str, species: str) -> StoreVocabulary:
        found = self.vocabularies.of(modality, species)
        return StoreVocabulary(np.array(found.names(), dtype=object), found.digest)


@dataclass(frozen=True)
class FittedCorpus:
    """A folder of fit_preprocessing."""

    cell_split: CellSplit
    records: dict[str, PreprocessingRecord]  # by species

    @property
    def digest(self) -> str:
        return digest({species: record.digest for species, record in self.records.items()})


def read_names(folder: Path) -> Names:
    settings = read_json(folder / "settings.json", "the folder that build_vocabulary writes")
    return Names(read_vocabularies(folder), VocabularySettings.model_validate(settings))


def fit_corpus(corpus: Corpus, names: Names, config: Fitting) -> dict[str, Fitted]:
    """Fit each species by itself: their genes have ids of their own."""
    fitted = {}
    for species in sorted({source.species for source in corpus.sources}):
        cells = [
            CellsToFit(source, ids_of(source, names), sets)
            for source, sets in zip(corpus.sources, corpus.sets, strict=True)
            if source.species == species
        ]
        modalities = sorted({modality for one in cells for modality in one.feature_ids})
        tokens = {
            modality: names.vocabularies.of(modality, species).names() for modality in modalities
        }
        digest_of_names = names.vocabularies.digest
        fitted[species] = fit(cells, tokens, digest_of_names, config.fit, config.filters)
    return fitted


def ids_of(source, names: Names) -> dict:
    """By modality, the vocabulary's ids of a source's features."""
    found = feature_ids(source, names.vocabularies, names.settings)
    return {modality: ids for modality, (ids, _) in found.items()}


def write_fitted(folder: Path, fitted: dict[str, Fitted], cell_split: CellSplit) -> None:
    """One folder for each species: record.json, hvg.csv, genes.tsv, peaks.tsv."""
    for species, its in fitted.items():
        its.record.write(folder / species / "record.json")
        for modality, table in its.statistics.items():
            measured = table[table["cells"] > 0]
            path = folder / species / f"{MODALITIES[modality]}s.tsv"
            measured.to_csv(path, sep="\t", index=False, float_format="%.6g")
        if its.record.hvgs:
            ranked = its.statistics["rna"].set_index("name").loc[its.record.hvgs]
            hvgs = ranked.drop(columns="kept").rename_axis("gene").reset_index()
            hvgs.to_csv(folder / species / "hvg.csv", index=False, float_format="%.6g")
    write_json(
        folder / "corpus.json",
        {"species": sorted(fitted), "cell_split": cell_split.model_dump(mode="json")},
    )


def read_fitted(folder: Path) -> FittedCorpus:
    about = read_json(folder / "corpus.json", "the folder that fit_preprocessing writes")
    return FittedCorpus(
        CellSplit.model_validate(about["cell_split"]),
        {species: read_record(folder / species / "record.json") for species in about["species"]},
    )


def to_store(
    corpus: Corpus, names: Names, fitted: FittedCorpus
) -> tuple[list[SourceToStore], dict[str, dict[str, StoreVocabulary]]]:
    """Sources with the ids of the features that are kept, and the vocabularies of these ids."""
    sources, vocabularies = [], {}
    for source, sets in zip(corpus.sources, corpus.sets, strict=True):
        record = fitted.records[source.species]
        kept = {
            modality: kept_ids(record, modality, ids, names.vocabularies.digest)
            for modality, ids in ids_of(source, names).items()
        }
        sources.append(SourceToStore(source, kept, sets, record.filters))
        for modality in kept:
            its = names.vocabulary(modality, source.species)
            vocabularies.setdefault(modality, {})[source.species] = its
    return sources, vocabularies
