"""What every source of cells offers, whatever files are behind it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import scipy.sparse as sp

# What a cell can be measured by, and what one column of such a matrix is called.
MODALITIES = {"rna": "gene", "atac": "peak"}


@dataclass(frozen=True)
class Features:
    """The columns of a source's matrix: genes or peaks, as the source names them."""

    names: np.ndarray  # str
    ids: np.ndarray | None = None  # str: Ensembl ids, where the source has them


@dataclass(frozen=True)
class Chunk:
    """Consecutive wanted cells and their checked raw counts (float32 CSR, sorted, no zeros)."""

    rows: np.ndarray  # row numbers in the source, ascending
    counts: Mapping[str, sp.csr_matrix]  # by modality: cells × features of the source


class CellSource(Protocol):
    """Cells of one file, or of one pair of files; nothing but names and labels is in memory."""

    dataset: str  # its name in the configuration; several sources may be parts of one dataset
    path: str  # for messages
    species: str  # whose genes the names are, after orthologs were put in
    features: Mapping[str, Features]  # by modality
    labels: pd.DataFrame  # categorical columns, a row per cell: batch, cell_type, donor, condition,
    # and whatever else was asked for
    data_digest: str  # of what is read: counts, names, labels
    file_digests: tuple[str, ...]  # of its files, whatever is read of them under whichever name

    def __len__(self) -> int: ...

    def names(self, rows: np.ndarray) -> np.ndarray:
        """Names of some cells (object array of str)."""
        ...

    def chunks(self, wanted: np.ndarray | None = None) -> Iterator[Chunk]:
        """Cells in row order; `wanted` is a mask."""
        ...


def file_names(path: str) -> str:
    """The files of a source's path without their folders: rna.h5ad + atac.h5ad."""
    return " + ".join(Path(part).name for part in path.split(" + "))
