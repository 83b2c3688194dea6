"""All cells of a source in its own order, in the ids of a frozen vocabulary: nothing is stored."""

from collections.abc import Iterator

import numpy as np

from vcpipe.data.cell_filters import first_columns, merge_columns
from vcpipe.data.cell_keys import cell_keys
from vcpipe.data.cell_store.blocks import LARGEST_COUNT
from vcpipe.data.cell_store.encoding import Encoder
from vcpipe.data.rows import Rows
from vcpipe.data.sources.source import CellSource
from vcpipe.data.tokens.packing import starts_of
from vcpipe.errors import InputError


def source_rows(
    source: CellSource, modality: str, feature_ids: np.ndarray, num_features: int
) -> Iterator[Rows]:
    """Chunks of cells with the features that have an id; totals count all features.

    What is drawn for a cell is named by its name alone, so that it does not matter which file the
    cell is in, or beside which others.
    """
    encoder, columns = Encoder(num_features), first_columns(feature_ids)
    for chunk in source.chunks():
        counts = merge_columns(chunk.counts[modality], columns)
        size, names = len(chunk.rows), source.names(chunk.rows)
        ids, numbers = np.empty(counts.nnz, np.int32), np.empty(counts.nnz, np.uint32)
        lengths, totals = np.empty(size, np.uint32), np.empty(size, np.uint64)
        row, feature = encoder.encode(counts, feature_ids, ids, numbers, lengths, totals)
        if row >= 0:
            raise InputError(
                f"{source.path}: cell {names[row]!r} has more than {LARGEST_COUNT} counts of the "
                f"feature with id {feature}; these are no counts of molecules."
            )
        starts = starts_of(lengths)
        its = ids[: starts[-1]], numbers[: starts[-1]]
        yield Rows(starts, *its, totals, cell_keys("", names))
