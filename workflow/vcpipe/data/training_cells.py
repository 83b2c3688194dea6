"""The cells that anything may be fitted on: of the training set, and with enough in them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from vcpipe.config.fitting import Filters
from vcpipe.data.cell_filters import REASONS, filter_cells, first_columns, merge_columns, row_sums
from vcpipe.data.cell_sets import TRAIN
from vcpipe.data.sources.source import CellSource
from vcpipe.errors import InputError


@dataclass(frozen=True)
class CellsToFit:
    """A source, the vocabulary's ids of its features (-1: none), and the set of each cell."""

    source: CellSource
    feature_ids: Mapping[str, np.ndarray]  # by modality
    sets: np.ndarray

    def axis(self, modality: str) -> str:
        return axis(modality, self.source.species)

    def has(self, of: str) -> bool:
        return any(self.axis(modality) == of for modality in self.feature_ids)


def axis(modality: str, species: str) -> str:
    """What ids count along: genes have a vocabulary for each species, peaks have one."""
    return modality if modality == "atac" else f"{modality} {species}"


@dataclass(frozen=True)
class TrainingChunk:
    number: int  # of the source
    feature_ids: Mapping[str, np.ndarray]
    rows: np.ndarray
    counts: Mapping[str, sp.csr_matrix]
    totals: Mapping[str, np.ndarray]  # counts of each row, unknown features included
    reason: np.ndarray  # of each row, as filter_cells gives it: only those with 0 are fitted on


def training_chunks(
    cells: Sequence[CellsToFit], filters: Filters, of: str | None = None
) -> Iterator[TrainingChunk]:
    """Training cells of all sources (that have an axis); cells of val and test are never read."""
    for number, one in enumerate(cells):
        assert len(one.sets) == len(one.source)
        if of is not None and not one.has(of):
            continue
        columns = {name: first_columns(ids) for name, ids in one.feature_ids.items()}
        for chunk in one.source.chunks(one.sets == TRAIN):
            counts = {name: merge_columns(chunk.counts[name], its) for name, its in columns.items()}
            sums = {name: row_sums(counts[name], ids) for name, ids in one.feature_ids.items()}
            totals = {name: its.totals for name, its in sums.items()}
            reason = filter_cells(sums, filters)
            yield TrainingChunk(number, one.feature_ids, chunk.rows, counts, totals, reason)


def refuse_no_cell(num_by_reason: np.ndarray, filters: Filters) -> None:
    """`num_by_reason` counts the training cells by the reason to leave them out."""
    if num_by_reason[0]:
        return
    found = [
        f"{number} have less than {name} {getattr(filters, name)}"
        for name, number in zip(REASONS[1:], num_by_reason[1:], strict=True)
        if number
    ]
    raise InputError(
        f"No training cell is left of {num_by_reason.sum()}"
        f"{': ' if found else ''}{', '.join(found)}; nothing can be fitted. Lower these filters, "
        "or give more cells to train (cell_split)."
    )
