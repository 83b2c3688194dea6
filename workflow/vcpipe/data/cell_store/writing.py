"""Write cells of many sources as one store, shuffled, in bounded memory.

Two passes: cells go to buckets by where they will stand, then one bucket after the other is sorted,
cut into blocks and written. The order follows from a seed and the names of the cells alone.
"""

# B cells of a chunk, M modalities

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from vcpipe.config.cell_store import CellStore
from vcpipe.data.cell_store.buckets import (
    BYTES_PER_ENTRY,
    EXPECTED_ENTRIES,
    Buckets,
    record_type,
)
from vcpipe.data.cell_store.labels import Groups, label_words
from vcpipe.data.cell_store.layout import (
    FORMAT,
    GROUPED,
    GROUPS,
    MANIFEST,
    SETS,
    lengths_path,
    names_path,
)
from vcpipe.data.cell_store.measured import write_measured
from vcpipe.data.cell_store.places import Stretches
from vcpipe.data.cell_store.scattering import Scatter, SourceToStore, StoreVocabulary
from vcpipe.data.cell_store.sorted_cells import SortedCells
from vcpipe.data.cell_store.verification import digests_of, sha256_of
from vcpipe.data.sources.source import MODALITIES
from vcpipe.errors import InputError, listed
from vcpipe.files import writing


def write_store(
    path: Path,
    sources: list[SourceToStore],
    settings: CellStore,
    about: dict,
    threads: int = 1,
    *,
    vocabularies: Mapping[str, Mapping[str, StoreVocabulary]],
) -> dict:
    """Write the store, vocabularies by modality and species inside; its manifest."""
    _check(sources, vocabularies)
    modalities = [name for name in MODALITIES if any(name in s.feature_ids for s in sources)]
    words = label_words(sources)
    sizes = sum(np.bincount(each.sets, minlength=256)[: len(SETS)] for each in sources)
    # Only train cells lie by group once more; cells for test alone may lack these labels.
    groups = Groups(words, settings.group_by) if settings.group_by and sizes[0] else None
    if groups:
        sizes = np.append(sizes, groups.count(sources))
    _refuse_empty(path, int(sizes[: len(SETS)].sum()), sources)
    memory = settings.memory_mb * 2**20
    per_bucket = max(1, memory // (BYTES_PER_ENTRY * EXPECTED_ENTRIES * len(modalities)))
    with (
        writing(path) as folder,
        ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool,
    ):
        folder.mkdir()
        record = record_type(len(words.columns), len(modalities))
        buckets = Buckets(
            folder / "buckets",
            Stretches(sizes, per_bucket),
            record,
            len(modalities),
            memory,
            pool,
        )
        scatter = Scatter(buckets, words, groups, modalities, vocabularies, settings.seed)
        found = [scatter.add(number, each) for number, each in enumerate(sources)]
        buckets.flush()
        _refuse_twice(path, buckets, sources)
        _refuse_empty(path, sum(each["kept"] for each in found), sources)
        found.sort(key=lambda each: (each["dataset"], each["file"]))
        cells = SortedCells(folder, words, modalities, settings, len(sizes), pool)
        for part in buckets.parts():
            cells.append(part)
        shards, runs = cells.close()
        shutil.rmtree(folder / "buckets")
        num_groups = 0
        if groups:
            start = next(run.start for run in runs if run.name == GROUPED)
            num_groups = groups.write(folder / GROUPS, cells.sizes[len(SETS) :], start)
        datasets = write_measured(folder, sources, words.datasets, modalities, vocabularies)
        for modality, lengths in zip(modalities, scatter.lengths, strict=True):
            np.save(lengths_path(folder, modality), lengths)
            for species, vocabulary in vocabularies[modality].items():
                text = "\n".join([*vocabulary.names.tolist(), ""])
                names_path(folder, modality, species).write_text(text)
        manifest = {
            "format": FORMAT,
            "num_cells": int(cells.sizes[: len(SETS)].sum()),
            "runs": [run.as_json() for run in runs],
            "block_size": settings.block_size,
            "compression": settings.compression,
            "modalities": {
                name: {
                    "vocabulary_digests": {s: v.digest for s, v in vocabularies[name].items()},
                    "num_features": {s: len(v.names) for s, v in vocabularies[name].items()},
                    "num_blocks": cells.num_blocks,
                    "num_entries": cells.num_entries[place],
                    "shards": shards[name],
                }
                for place, name in enumerate(modalities)
            },
            "labels": list(words.columns),
            "num_groups": num_groups,
            "datasets": datasets,
            "settings": settings.model_dump(mode="json"),
            "statistics": scatter.statistics() | {"sources": found},
            "files": _sizes_and_digests(folder),
            "about": about,
        }
        manifest |= digests_of(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest


def _check(sources: list[SourceToStore], vocabularies) -> None:
    """The caller's promises."""
    assert sources, "a store has at least one source"
    species: dict[str, str] = {}
    for each in sources:
        source = each.source
        assert len(each.sets) == len(source) == len(source.labels)
        if species.setdefault(source.dataset, source.species) != source.species:
            raise InputError(
                f"Dataset {source.dataset!r} has cells of {species[source.dataset]} and "
                f"{source.species}; expected one species. Make it two datasets."
            )
        for modality, ids in each.feature_ids.items():
            assert len(ids) == len(source.features[modality].names)
            assert ids.max(initial=-1) < len(vocabularies[modality][source.species].names)


def _refuse_empty(path: Path, num_cells: int, sources: list[SourceToStore]) -> None:
    if num_cells == 0:
        filters = sources[0].filters
        raise InputError(
            f"{path}: no cell is left of {sum(len(s.sets) for s in sources)}; expected cells of a "
            f"set with min_genes {filters.min_genes}, min_counts {filters.min_counts}, min_peaks "
            f"{filters.min_peaks} or more in known features. Lower them, or check the split."
        )


def _refuse_twice(path: Path, buckets: Buckets, sources: list[SourceToStore]) -> None:
    found = set()
    for pair in buckets.twice():
        one, other = (
            (each.source.dataset, str(each.source.names(np.array([cell["row"]]))[0]))
            for cell in pair
            for each in [sources[cell["source"]]]
        )
        if one == other:
            found.add(one)
    if found:
        shown = [f"{name!r} of {dataset}" for dataset, name in sorted(found)]
        raise InputError(
            f"{path}: {len(found)} cells stand more than once: {listed(shown)}. Cells of a "
            "dataset need names of their own, e.g. with a prefix for each file."
        )


def _sizes_and_digests(folder: Path) -> dict[str, dict]:
    """All files but shards, which are digested as they are written."""
    return {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in sorted(folder.iterdir())
        if file.suffix != ".bin"
    }
