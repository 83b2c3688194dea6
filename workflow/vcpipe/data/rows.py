"""Some cells of one modality, as the store gives them and tokenizers take them."""

# B cells, N detected features of all of them

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Detected features only, in vocabulary ids that ascend within a cell."""

    starts: np.ndarray  # int64 [B + 1]: cell i holds entries starts[i]:starts[i + 1]
    ids: np.ndarray  # int32 [N]
    counts: np.ndarray  # uint32 [N], above zero
    totals: np.ndarray  # uint64 [B]: counts of the cell, features outside the vocabulary included
    keys: np.ndarray  # uint64 [B]: the names of the cells, for everything that is drawn

    def __len__(self) -> int:
        return len(self.keys)


def concatenated(parts: Sequence[Rows]) -> Rows:
    """The cells of several, one after the other."""
    ends = np.cumsum([0, *(part.starts[-1] for part in parts)])
    starts = [part.starts[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
    names = ("ids", "counts", "totals", "keys")
    its = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
    return Rows(np.concatenate([*starts, ends[-1:]]), *its)
