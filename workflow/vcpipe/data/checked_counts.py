"""Rows of a matrix that must be raw counts: put in order, or refused with the cell and the gene."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from vcpipe.data.sparse_rows import NO_COUNT, OUTSIDE, UNORDERED, inspect
from vcpipe.errors import InputError

# Float32 holds every integer up to here; UMI counts of one gene in one cell stay far below.
LARGEST_COUNT = 2**24
# What is held at a time: some 30 MB with all that is made of it.
ENTRIES_PER_CHUNK = 2**21


@dataclass(frozen=True)
class Place:
    """Where rows come from, for messages."""

    matrix: str  # "raw.h5ad: layers/counts"
    cell: Callable[[int], str]  # the name of a row
    feature: Callable[[int], str]  # the name of a column
    setting: str  # that says where in the file the counts are
    what: str = "gene"  # what a column is


def checked_counts(block: sp.csr_matrix, place: Place) -> sp.csr_matrix:
    """The same counts as float32, sorted, each column once, without zeros."""
    if block.dtype not in (np.float32, np.float64):
        block = block.astype(np.float64)
    finding = _inspected(block)
    if finding == UNORDERED:
        # Before they are added up: a half twice would be a count.
        _refuse_other_than_counts(block, place)
        block.sum_duplicates()
        block.eliminate_zeros()
        finding = _inspected(block)
    if finding == OUTSIDE:
        raise InputError(
            f"{place.matrix} has column indices outside its {block.shape[1]} {place.what}s; the "
            "file is damaged. Write or download it again."
        )
    if finding == NO_COUNT:
        _refuse_other_than_counts(block, place)
    return block.astype(np.float32, copy=False)


def _inspected(block: sp.csr_matrix) -> int:
    return inspect(block.indptr, block.indices, block.data, block.shape[1], LARGEST_COUNT)


def _refuse_other_than_counts(block: sp.csr_matrix, place: Place) -> None:
    others = np.flatnonzero(~_is_count(block.data))
    if not len(others):
        return
    entry = others[0]
    row = np.searchsorted(block.indptr, entry, side="right") - 1
    raise InputError(
        f"{place.matrix} is {block.data[entry]} in cell '{place.cell(row)}', {place.what} "
        f"'{place.feature(block.indices[entry])}'; expected raw counts. "
        f"{_advice(block.data, block.data[entry], place.setting)}"
    )


def _is_count(values: np.ndarray) -> np.ndarray:
    # A comparison with NaN is False, so NaN is no count.
    with np.errstate(invalid="ignore"):
        return (values >= 0) & (values <= LARGEST_COUNT) & (values == np.rint(values))


def _advice(values: np.ndarray, value: float, setting: str) -> str:
    if np.isnan(value):
        return "Remove the cell or the gene, or write the file again from counts."
    if value < 0:
        return f"Negative values come from scaling; set {setting} to the layer with raw counts."
    if value > LARGEST_COUNT:
        return f"Counts above {LARGEST_COUNT} are no UMI counts; remove the cell or the gene."
    # log1p of 1e6 counts per cell stays below 14.
    if values[np.isfinite(values)].max() < 15:
        return (
            f"The values look log-normalised; set {setting} to the layer with raw counts, "
            "or give the file from before normalisation."
        )
    return f"The values look normalised or corrected; set {setting} to the layer with raw counts."
