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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcpipe.config.cell_store import CellStore
from vcpipe.config.fitting import Filters
from vcpipe.data.cell_keys import cell_keys
from vcpipe.data.cell_store.blocks import LARGEST_COUNT
from vcpipe.data.cell_store.buckets import (
    BYTES_PER_ENTRY,
    EXPECTED_ENTRIES,
    Buckets,
    Stretches,
    orders,
    record_type,
)
from vcpipe.data.cell_store.encoding import NUM_SHOWN_COUNTS, Encoder, tally
from vcpipe.data.cell_store.labels import Groups, LabelWords, label_words
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
from vcpipe.data.cell_store.sorted_cells import SortedCells
from vcpipe.data.cell_store.verification import sha256_of
from vcpipe.data.sources.source import MODALITIES, CellSource, Chunk
from vcpipe.errors import InputError, listed
from vcpipe.files import digest, writing


@dataclass(frozen=True)
class StoreVocabulary:
    """Features of one modality and species: a feature's id is its place."""

    names: np.ndarray  # str, special tokens included
    digest: str


@dataclass(frozen=True)
class SourceToStore:
    source: CellSource
    feature_ids: Mapping[str, np.ndarray]  # of each modality's columns, int32; -1: not stored
    sets: np.ndarray  # uint8 of each cell: its place in SETS, or NOT_STORED
    filters: Filters


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
    groups = Groups(words, settings.group_by) if settings.group_by else None
    sizes = sum(np.bincount(each.sets, minlength=256)[: len(SETS)] for each in sources)
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
        scatter = _Scatter(buckets, words, groups, modalities, vocabularies, settings.seed)
        found = [scatter.add(number, each) for number, each in enumerate(sources)]
        buckets.flush()
        _refuse_twice(path, buckets, sources)
        _refuse_empty(path, sum(each["kept"] for each in found), sources)
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
        manifest["data_digest"] = digest(manifest)
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


class _Scatter:
    """Pass 1: chunks of sources become rows of ids in the buckets' buffer."""

    def __init__(self, buckets, words: LabelWords, groups, modalities, vocabularies, seed: int):
        self.buckets, self.words, self.groups, self.seed = buckets, words, groups, seed
        self.modalities, self.vocabularies = modalities, vocabularies
        most = [max(len(v.names) for v in vocabularies[name].values()) for name in modalities]
        self.encoders = [Encoder(number) for number in most]
        self.lengths = [np.zeros(1, dtype=np.int64) for _ in modalities]
        self.histograms = [np.zeros(NUM_SHOWN_COUNTS + 1, dtype=np.int64) for _ in modalities]
        self.largest = [0] * len(modalities)

    def add(self, number: int, each: SourceToStore) -> dict:
        """All wanted cells of a source; how many were kept and left out, and why."""
        wanted = each.sets < len(SETS)
        left_out = {"no_set": int(len(wanted) - wanted.sum())}
        kept = 0
        for chunk in each.source.chunks(wanted) if wanted.any() else ():
            kept += self._add_chunk(number, each, chunk, left_out)
        return {
            "dataset": each.source.dataset,
            "file": Path(each.source.path).name,
            "data_digest": each.source.data_digest,
            "num_cells": len(wanted),
            "kept": kept,
            "left_out": left_out,
        }

    def _add_chunk(self, number: int, each: SourceToStore, chunk: Chunk, left_out: dict) -> int:
        source, num_cells = each.source, len(chunk.rows)
        nonzero = [chunk.counts[m].nnz if m in each.feature_ids else 0 for m in self.modalities]
        self.buckets.make_room(nonzero)
        about = np.zeros(num_cells, dtype=self.buckets.record)
        known = np.zeros((len(self.modalities), num_cells), dtype=np.uint64)
        first = np.zeros((num_cells, len(self.modalities)), dtype=np.int64)
        rooms = []
        for m, modality in enumerate(self.modalities):
            ids, counts = self.buckets.room(m, nonzero[m])
            rooms.append(counts)
            if modality not in each.feature_ids:
                continue
            lengths, totals = np.empty(num_cells, np.uint32), np.empty(num_cells, np.uint64)
            row, feature = self.encoders[m].encode(
                chunk.counts[modality],
                each.feature_ids[modality],
                ids,
                counts,
                lengths,
                totals,
                known[m],
            )
            if row >= 0:
                self._refuse_large(source, modality, chunk.rows[row], feature)
            about["lengths"][:, m], about["totals"][:, m] = lengths, totals
            first[:, m] = np.cumsum(lengths, dtype=np.int64) - lengths
        enough = self._enough(each, about["lengths"], known, left_out)
        for m, counts in enumerate(rooms):
            self._count(m, first[enough, m], about["lengths"][enough, m], counts)
        names = source.names(chunk.rows)
        about["key"] = cell_keys(source.dataset, names)
        about["order"] = orders(self.seed, about["key"])
        about["row"], about["source"] = chunk.rows, number
        about["dataset"] = self.words.datasets.index(source.dataset)
        about["species"] = self.words.species.index(source.species)
        about["set"] = about["rank"] = each.sets[chunk.rows]
        about["labels"] = self.words.codes(source.labels.iloc[chunk.rows])
        encoded = [str(name).encode() for name in names]
        about["name_length"] = [len(name) for name in encoded]
        written = about["lengths"].sum(axis=0, dtype=np.int64).tolist()
        first += np.array(self.buckets.used)
        rows = np.flatnonzero(enough)
        self.buckets.add(about[rows], [encoded[row] for row in rows], first[rows], written)
        if self.groups:
            rows = rows[about["set"][rows] == 0]
            again = about[rows]
            again["rank"] = len(SETS) + self.groups.ranks(source.dataset, again["labels"])
            nothing = [0] * len(self.modalities)
            self.buckets.add(again, [encoded[row] for row in rows], first[rows], nothing)
        return int(enough.sum())

    def _enough(self, each: SourceToStore, lengths, known, left_out: dict) -> np.ndarray:
        """Cells above all thresholds; those below are counted under the first that they miss."""
        filters, enough = each.filters, np.ones(len(lengths), dtype=bool)
        main = next(m for m, name in enumerate(self.modalities) if name in each.feature_ids)
        tests = [("min_counts", known[main], filters.min_counts)]
        for m, modality in enumerate(self.modalities):
            if modality in each.feature_ids:
                name = f"min_{MODALITIES[modality]}s"
                tests.append((name, lengths[:, m], getattr(filters, name)))
        for name, values, least in sorted(tests, key=lambda test: test[0] == "min_counts"):
            below = enough & (values < least)
            left_out[name] = left_out.get(name, 0) + int(below.sum())
            enough &= ~below
        return enough

    def _count(self, m: int, first, lengths, counts) -> None:
        its = np.bincount(lengths)
        if len(its) > len(self.lengths[m]):
            self.lengths[m] = np.pad(self.lengths[m], (0, len(its) - len(self.lengths[m])))
        self.lengths[m][: len(its)] += its
        largest = tally(
            np.ascontiguousarray(first),
            np.ascontiguousarray(lengths),
            counts,
            np.arange(len(first)),
            self.histograms[m],
        )
        self.largest[m] = max(self.largest[m], int(largest))

    def _refuse_large(self, source: CellSource, modality: str, row: int, feature: int) -> None:
        name = self.vocabularies[modality][source.species].names[feature]
        (cell,) = source.names(np.array([row]))
        raise InputError(
            f"{source.path}: cell {cell!r} has more than {LARGEST_COUNT} counts of "
            f"{MODALITIES[modality]} {name!r}; these are no counts of molecules. Remove the cell "
            "or the feature."
        )

    def statistics(self) -> dict:
        """Of all kept cells, the grouped copy aside."""
        made = {}
        for m, modality in enumerate(self.modalities):
            ends = np.cumsum(self.lengths[m])
            shares = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
            made[modality] = {
                # How many counts are 1, 2, ... 63, and 64 or more.
                "counts": self.histograms[m][1:].tolist(),
                "largest_count": self.largest[m],
                "lengths": {
                    str(share): int(np.searchsorted(ends, max(1, share * ends[-1])))
                    for share in shares
                },
            }
        return {"modalities": made}


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
