"""Pass 1: chunks of sources, put into the order of the vocabulary, go to the buckets."""

# B cells of a chunk, M modalities

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vcpipe.config.fitting import Filters
from vcpipe.data.cell_filters import (
    REASONS,
    filter_cells,
    first_columns,
    merge_columns,
    row_sums,
)
from vcpipe.data.cell_keys import cell_keys
from vcpipe.data.cell_store.blocks import LARGEST_COUNT
from vcpipe.data.cell_store.buckets import Buckets
from vcpipe.data.cell_store.encoding import NUM_SHOWN_COUNTS, Encoder, tally
from vcpipe.data.cell_store.labels import Groups, LabelWords
from vcpipe.data.cell_store.layout import SETS
from vcpipe.data.cell_store.places import orders
from vcpipe.data.sources.source import MODALITIES, CellSource, Chunk, file_names
from vcpipe.errors import InputError


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
    # The vocabulary's ids before fitting left some out: filters look at these, as in fitting.
    known_ids: Mapping[str, np.ndarray]

    @cached_property
    def _columns(self) -> dict[str, np.ndarray | None]:
        return {name: first_columns(ids) for name, ids in self.known_ids.items()}

    def reasons(self, chunk: Chunk) -> np.ndarray:
        """Of each cell, why it is left out, as in fitting; 0 where it is kept."""
        sums = {
            name: row_sums(merge_columns(chunk.counts[name], columns), self.known_ids[name])
            for name, columns in self._columns.items()
        }
        return filter_cells(sums, self.filters)


class Scatter:
    """add() one source after the other; then statistics()."""

    def __init__(
        self,
        buckets: Buckets,
        words: LabelWords,
        groups: Groups | None,
        modalities: list[str],
        vocabularies: Mapping[str, Mapping[str, StoreVocabulary]],
        seed: int,
    ):
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
        left_out = {"held_out": int(len(wanted) - wanted.sum())}
        kept = np.zeros(len(SETS), dtype=np.int64)
        for chunk in each.source.chunks(wanted) if wanted.any() else ():
            kept += self._add_chunk(number, each, chunk, left_out)
        return {
            "dataset": each.source.dataset,
            "file": file_names(each.source.path),
            "data_digest": each.source.data_digest,
            "num_cells": len(wanted),
            "kept": int(kept.sum()),
            "kept_by_set": dict(zip(SETS, kept.tolist(), strict=True)),
            "left_out": left_out,
        }

    def _add_chunk(
        self, number: int, each: SourceToStore, chunk: Chunk, left_out: dict
    ) -> np.ndarray:
        """How many cells of each set were kept."""
        source, num_cells = each.source, len(chunk.rows)
        nonzero = [chunk.counts[m].nnz if m in each.feature_ids else 0 for m in self.modalities]
        self.buckets.make_room(nonzero)
        about = np.zeros(num_cells, dtype=self.buckets.record)
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
            )
            if row >= 0:
                self._refuse_large(source, modality, chunk.rows[row], feature)
            about["lengths"][:, m], about["totals"][:, m] = lengths, totals
            first[:, m] = np.cumsum(lengths, dtype=np.int64) - lengths
        reason = each.reasons(chunk)
        # Fitting may have left out all that a cell has: there is nothing to learn from it.
        nothing = (reason == 0) & ~about["lengths"].any(axis=1)
        enough = (reason == 0) & ~nothing
        for why, missed in zip(
            REASONS[1:], np.bincount(reason, minlength=len(REASONS))[1:], strict=True
        ):
            left_out[why] = left_out.get(why, 0) + int(missed)
        left_out["nothing_kept"] = left_out.get("nothing_kept", 0) + int(nothing.sum())
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
            no_entries = [0] * len(self.modalities)
            self.buckets.add(again, [encoded[row] for row in rows], first[rows], no_entries)
        return np.bincount(about["set"][enough], minlength=len(SETS))

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
            f"{MODALITIES[modality]} {str(name)!r}; these are no counts of molecules. Remove the "
            "cell or the feature."
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
