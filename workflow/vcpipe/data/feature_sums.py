"""In how many cells each feature of the vocabulary is seen, how often, and whether it is kept."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from vcpipe.config.fitting import Fit
from vcpipe.data.sparse_rows import compiled


@dataclass(frozen=True)
class FeatureSums:
    """By id of the vocabulary; adding chunks fills it in place."""

    num_cells: np.ndarray
    counts: np.ndarray


def empty_feature_sums(num_features: int) -> FeatureSums:
    return FeatureSums(*(np.zeros(num_features, dtype=np.int64) for _ in range(2)))


def add_features(
    sums: FeatureSums, counts: sp.csr_matrix, ids: np.ndarray, kept: np.ndarray
) -> None:
    """Add the kept rows; columns with id -1 are left out."""
    rows = (counts.indptr, counts.indices, counts.data)
    _add(*rows, ids, kept, sums.num_cells, sums.counts)


@compiled
def _add(indptr, indices, counts, ids, kept, num_cells, sums) -> None:
    for row in range(len(indptr) - 1):
        if kept[row]:
            for entry in range(indptr[row], indptr[row + 1]):
                feature = ids[indices[entry]]
                if feature >= 0:
                    num_cells[feature] += 1
                    sums[feature] += np.int64(counts[entry])


def reasons_to_drop(
    of: str, sums: FeatureSums, is_feature: np.ndarray, config: Fit
) -> dict[str, np.ndarray]:
    """Masks of features to drop, by the setting that says so; each feature in one at most."""
    if of == "atac":
        return {"min_peak_cells": is_feature & (sums.num_cells < config.min_peak_cells)}
    in_few = is_feature & (sums.num_cells < config.min_cells)
    has_few = is_feature & ~in_few & (sums.counts < config.min_gene_counts)
    return {"min_cells": in_few, "min_gene_counts": has_few}
