"""Cells that were measured twice, found by their names in two files or in many."""

import re
from dataclasses import dataclass

import numpy as np

from vcpipe.data.sources.cells import names_of
from vcpipe.data.sources.matrix import CellMatrix
from vcpipe.errors import InputError, listed

# Names that are looked at to guess why none of them is in the other file.
LOOKED_AT = 10**5
# How programs lengthen a barcode: AAAC-1 (Cell Ranger), AAAC-1-0 (anndata), mop#AAAC-1 (ArchR).
LENGTHENED = {
    "a suffix such as -1": re.compile(r"(-\d+)+$"),
    "a prefix such as sample#": re.compile(r"^.*[#:_/]"),
    "a suffix such as _sample": re.compile(r"[#:_/].*$"),
    "a prefix such as sample# and a suffix such as -1": re.compile(r"^.*[#:_/]|(-\d+)+$"),
}


@dataclass(frozen=True)
class Overlap:
    """Cells of a dataset's files, and how many of them have both modalities."""

    rna: int
    atac: int
    paired: int


@dataclass(frozen=True)
class Pair:
    """Cells that two files share, in the order of the first; files by their numbers."""

    rna: int
    atac: int
    rows: dict[str, np.ndarray]  # by modality


def refuse_repeated_cells(
    matrices: list[CellMatrix], every: list[np.ndarray], dataset: str
) -> None:
    """Refuse names that stand twice in a file, or in two of them; `every` has the keys of each."""
    for matrix, keys in zip(matrices, every, strict=True):
        rows = np.flatnonzero(np.isin(keys, _repeated(keys)))
        if len(rows):
            names = list(dict.fromkeys(names_of(matrix.cells, rows)))
            raise InputError(
                f"{matrix.path}: names of cells must be unique; {listed(names, 3)} stand more than "
                "once. Make them unique, e.g. with the sample's name first."
            )
    repeated = _repeated(np.concatenate(every))
    if not len(repeated):
        return
    first, second, *_ = (number for number, keys in enumerate(every) if repeated[0] in keys)
    shared = np.flatnonzero(np.isin(every[first], every[second]))
    raise InputError(
        f"{len(shared)} names of cells stand in {matrices[first].path} and in "
        f"{matrices[second].path}: {listed(names_of(matrices[first].cells, shared), 3)}. Set "
        f"atlases.{dataset}.repeated_cells: prefix to put the file's name first, or leave out one "
        "of the files."
    )


def _repeated(keys: np.ndarray) -> np.ndarray:
    keys = np.sort(keys)
    return np.unique(keys[1:][keys[1:] == keys[:-1]])


def pair_cells(
    rna: list[CellMatrix], atac: list[CellMatrix], keys: dict[str, list[np.ndarray]], dataset: str
) -> tuple[list[Pair], Overlap]:
    """Each RNA cell with the ATAC cell of its name, in whatever file that is."""
    file = np.repeat(np.arange(len(atac)), list(map(len, keys["atac"])))
    row = np.concatenate([np.arange(len(some)) for some in keys["atac"]])
    theirs = np.concatenate(keys["atac"])
    order = np.argsort(theirs)
    pairs = []
    for first, mine in enumerate(keys["rna"]):
        place = np.searchsorted(theirs[order], mine)
        place[place == len(order)] = 0
        found = np.flatnonzero(theirs[order[place]] == mine)
        partner = order[place[found]]
        for second in np.unique(file[partner]).tolist():
            here = file[partner] == second
            pairs.append(Pair(first, second, {"rna": found[here], "atac": row[partner[here]]}))
    overlap = Overlap(
        rna=sum(map(len, keys["rna"])),
        atac=len(theirs),
        paired=sum(len(pair.rows["rna"]) for pair in pairs),
    )
    if not overlap.paired:
        _refuse_unpaired(rna, atac, overlap, dataset)
    return pairs, overlap


def _refuse_unpaired(
    rna: list[CellMatrix], atac: list[CellMatrix], overlap: Overlap, dataset: str
) -> None:
    names = {
        "rna": [name for matrix in rna for name in matrix.cells.names(0, LOOKED_AT)][:LOOKED_AT],
        "atac": [name for matrix in atac for name in matrix.cells.names(0, LOOKED_AT)][:LOOKED_AT],
    }
    raise InputError(
        f"atlases.{dataset}: none of {overlap.rna} cells in {_files(rna)} "
        f"({listed(names['rna'][:3])}) is among {overlap.atac} cells in {_files(atac)} "
        f"({listed(names['atac'][:3])}); pairs are found by their names. {_hint(names)}"
    )


def _files(matrices: list[CellMatrix]) -> str:
    return listed((matrix.path for matrix in matrices), 2)


def _hint(names: dict[str, list[str]]) -> str:
    """What the names of one side have more than those of the other, where that is all."""
    for what, more in LENGTHENED.items():
        short = {key: {more.sub("", name) for name in some} for key, some in names.items()}
        if not short["rna"] & short["atac"]:
            continue
        with_it = [key for key, some in names.items() if short[key] != set(some)]
        side = f"those of {with_it[0]} have" if len(with_it) == 1 else "they have different ends:"
        return f"They would be the same without it: {side} {what}. Write them alike."
    return "Give the files of the same cells, or name the cells alike in both."
