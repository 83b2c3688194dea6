"""What both AnnData back-ends make of a matrix: cells that were read together, and their labels."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import xxhash

from vcpipe.data.cell_keys import number
from vcpipe.data.cell_store.cells import Cells, copied, gathered
from vcpipe.data.checked_counts import Place, checked_counts
from vcpipe.data.counts import is_missing
from vcpipe.data.loading.reader import LabelCodes
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled
from vcpipe.errors import InputError, listed


@dataclass(frozen=True)
class FetchedCells:
    """A buffer that holds each cell once, however often it was asked for."""

    positions: np.ndarray  # int64
    distinct: Cells
    place: np.ndarray  # int64: of each position among the cells

    def cells(self, places: np.ndarray) -> tuple[Cells, np.ndarray]:
        return self.distinct, self.place[places]

    def rows(self, places: np.ndarray) -> Rows:
        return gathered(*self.cells(places))


def fetched_cells(positions: np.ndarray, distinct: np.ndarray, cells: Cells) -> FetchedCells:
    """`cells` are those at the `distinct` positions, which ascend."""
    return FetchedCells(positions, cells, np.searchsorted(distinct, positions))


def cells_of_matrix(matrix: sp.csr_matrix, place: Place, named: int, rows: np.ndarray) -> Cells:
    """Raw counts as cells whose keys are made of a number for their file and their rows in it."""
    counts = checked_counts(matrix, place)
    starts = counts.indptr.astype(np.int64, copy=False)
    whole = counts.data.astype(np.uint32)
    totals, keys = (np.empty(len(rows), dtype=np.uint64) for _ in range(2))
    add_up(starts, whole, totals)
    number_rows(np.uint64(named), rows, keys)
    lengths = np.diff(starts).astype(np.uint32)
    return Cells(
        starts[:-1], lengths, counts.indices.astype(np.int32, copy=False), whole, totals, keys
    )


@compiled
def add_up(starts, counts, totals) -> None:
    for row in range(len(totals)):
        total = np.uint64(0)
        for entry in range(starts[row], starts[row + 1]):
            total += np.uint64(counts[entry])
        totals[row] = total


@compiled
def number_rows(named, rows, keys) -> None:
    for place in range(len(rows)):
        keys[place] = number(named, rows[place])


def joined(parts: Sequence[Cells]) -> Cells:
    """Cells of several matrices, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return copied(list(parts), [np.arange(len(part)) for part in parts])


def file_numbers(names: Iterable[str]) -> list[int]:
    """A number for each file that keys of its cells begin with: a hash of its name.

    A folder that moves leaves it as it is; a second file of the same name has another.
    """
    seen: Counter[str] = Counter()
    numbers = []
    for name in names:
        numbers.append(xxhash.xxh3_64_intdigest(f"{name}\0{seen[name]}".encode()))
        seen[name] += 1
    return numbers


def refuse_other_genes(genes: np.ndarray, what: str, first: np.ndarray, where: str) -> None:
    """Refuse a matrix whose columns are not those of the first one, in the same order."""
    if np.array_equal(genes, first):
        return
    shared = min(len(genes), len(first))
    differing = np.flatnonzero(genes[:shared] != first[:shared])
    column = int(differing[0]) if len(differing) else shared
    its, other = (
        f"'{names[column]}'" if column < len(names) else "none" for names in (genes, first)
    )
    raise InputError(
        f"{what} has other genes than {where} ({len(genes)} and {len(first)}): number {column + 1} "
        f"is {its}, there {other}. Bring them into one order, for example with anndata.concat, or "
        "prepare them as a store, which joins genes by name."
    )


def range_of(num_cells: int, first: int, stop: int | None, what: str) -> tuple[int, int]:
    """The range of cells that is read; without an end, up to the last."""
    stop = num_cells if stop is None else stop
    if not 0 <= first < stop <= num_cells:
        raise InputError(
            f"{what} has {num_cells} cells; the range {first}:{stop} is empty or goes beyond them. "
            f"Choose one within 0:{num_cells}."
        )
    return first, stop


def read_names(element) -> np.ndarray:
    """Names of cells or genes from an array of HDF5 or zarr."""
    return np.asarray(_read_values(element).astype(object), dtype=str)


def _read_values(element):
    values = ad.io.read_elem(element)
    # Text of zarr v3, which pandas 2 does not take.
    return values.astype(object) if values.dtype.kind == "T" else values


def read_column(obs, column: str, num_cells: int, path: Path) -> pd.Series:
    """One column of an obs group, of HDF5 or zarr."""
    columns = list(obs.attrs.get("column-order", []))
    if column not in columns:
        raise InputError(
            f"{path}: obs has no column {column!r}; its columns are "
            f"{listed(columns, 30) or 'none'}. Choose among them."
        )
    try:
        values = pd.Series(_read_values(obs[column]))
    except ValueError as error:
        raise InputError(
            f"{path}: obs column {column!r} cannot be read ({error}). The file is damaged; write "
            "or download it again."
        ) from error
    if len(values) != num_cells:
        raise InputError(
            f"{path}: obs column {column!r} has {len(values)} values; expected {num_cells}, one "
            "for each cell. The file is damaged; write or download it again."
        )
    if values.dtype.kind == "f":
        raise InputError(
            f"{path}: obs column {column!r} holds {values.dtype}; labels are categories, text, "
            "whole numbers or booleans. Choose another column, or write its values as text."
        )
    return values


def label_codes(columns: Sequence[Sequence[pd.Series]]) -> LabelCodes:
    """Number the combinations of labels that occur; each column is a list of its parts, by file.

    Numbers follow the order of the words, not that of cells or categories.
    """
    words: list[tuple[str, ...]] = [()]
    codes = np.zeros(sum(len(part) for part in columns[0]), dtype=np.int64)
    for parts in columns:
        its_words, its_codes = _numbered(parts)
        known = (codes >= 0) & (its_codes >= 0)
        pairs = codes[known] * len(its_words) + its_codes[known]
        numbers, present = pd.factorize(pairs, sort=True)
        codes = np.full(len(codes), -1, dtype=np.int64)
        codes[known] = numbers
        words = [
            (*words[pair // len(its_words)], its_words[pair % len(its_words)]) for pair in present
        ]
    return LabelCodes(words, lambda first, last: codes[first:last])


def _numbered(parts: Sequence[pd.Series]) -> tuple[list[str], np.ndarray]:
    """The words of a column in their order, and the number of each cell's; -1 where none is."""
    found = [
        pd.factorize(part) if part.dtype != "category" else _categories(part) for part in parts
    ]
    texts = [
        np.where(is_missing(pd.Series(values)), None, pd.Series(values).astype(str))
        for _, values in found
    ]
    words = sorted({text for its in texts for text in its if text is not None})
    number_of = {word: number for number, word in enumerate(words)}
    codes = []
    for (local, _), its in zip(found, texts, strict=True):
        # The last one is for -1, a label that is missing.
        numbers = np.array([*(number_of.get(text, -1) for text in its), -1], dtype=np.int64)
        codes.append(numbers[local])
    return words, np.concatenate(codes)


def _categories(values: pd.Series) -> tuple[np.ndarray, pd.Index]:
    return values.cat.codes.to_numpy(), values.cat.categories
