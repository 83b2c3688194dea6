"""A corpus on its way to the store: thinned as it was fitted.

Apart from fitted_corpus, so that nothing is fitted anew where only the store has changed.
"""

import numpy as np

from vcpipe.data.cell_sets import LEFT_OUT
from vcpipe.data.cell_store.scattering import SourceToStore, StoreVocabulary
from vcpipe.data.corpus import Corpus
from vcpipe.data.corpus_names import Names
from vcpipe.data.feature_ids import feature_ids
from vcpipe.data.preprocessing_record import PreprocessingRecord, kept_ids
from vcpipe.data.sources.source import CellSource, file_names
from vcpipe.data.vocabularies import label_ids
from vcpipe.data.vocabulary_report import coverage


def to_store(
    corpus: Corpus, names: Names, record: PreprocessingRecord
) -> tuple[list[SourceToStore], dict[str, dict[str, StoreVocabulary]], list[dict]]:
    """Sources with the ids of the features that are kept, the vocabularies of these ids, coverage.

    Coverage has a row for each source and modality: how many features are used, and why not, and
    how many batches the vocabulary lacks.
    """
    sources, vocabularies, rows = [], {}, []
    for source, sets in zip(corpus.sources, corpus.sets, strict=True):
        _refuse_unknown_types(source, sets, names)
        new_batches = len(labels_of(source, sets, "batch") - {*names.vocabularies.batches.ids})
        known, kept = {}, {}
        found = feature_ids(source, names.vocabularies, names.settings)
        for modality, (ids, fates) in found.items():
            known[modality] = ids
            digest = names.vocabularies.digest
            kept[modality] = kept_ids(record, modality, source.species, ids, digest)
            used = int((kept[modality] >= 0).sum())
            row = coverage(source, modality, fates)
            row["file"] = file_names(row.pop("path"))
            row |= {"used": used, "filtered_out": row["known"] - used, "new_batches": new_batches}
            rows.append(row)
        sources.append(SourceToStore(source, kept, sets, record.filters, known))
        for modality in kept:
            its = store_vocabulary(names, modality, source.species)
            vocabularies.setdefault(modality, {})[source.species] = its
    rows.sort(key=lambda row: (row["dataset"], row["file"]))
    return sources, vocabularies, rows


def labels_of(source: CellSource, sets: np.ndarray, column: str) -> set[str]:
    """Labels of the cells that are not left out; none where the source has no such column."""
    if column not in source.labels:
        return set()
    return {str(name) for name in source.labels[column][sets != LEFT_OUT].dropna().unique()}


def _refuse_unknown_types(source: CellSource, sets: np.ndarray, names: Names) -> None:
    """New cells have batches of their own, but types that are to be found by number."""
    known = names.vocabularies.cell_types
    # Cells that a vocabulary without any type was made of say nothing about types.
    if known.ids:
        where = f"{source.path}, cell_type,"
        label_ids(sorted(labels_of(source, sets, "cell_type")), known, where)


def store_vocabulary(names: Names, modality: str, species: str) -> StoreVocabulary:
    found = names.vocabularies.of(modality, species)
    return StoreVocabulary(np.array(found.names(), dtype=object), found.digest)
