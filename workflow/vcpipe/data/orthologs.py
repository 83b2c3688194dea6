"""Genes of one species called by the names of another.

What becomes of a gene:

  one_to_one     it has one ortholog, which no other gene of the file has
  added          several genes have this one ortholog; their counts are added
  same_spelling  it has several orthologs and gets the one of its own name (Actb and ACTB)
  ambiguous      it has several orthologs, none of its name: left out
  none           the table says that it has none
  unknown        the table does not have it
"""

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.errors import InputError, listed
from vcpipe.files import existing

FATES = ("one_to_one", "added", "same_spelling", "ambiguous", "none", "unknown")

# Every gene of the table -> its orthologs, in the order of their names; none: an empty tuple.
Orthologs = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Translation:
    names: np.ndarray  # str: each ortholog once, and "" for every gene without one
    place: np.ndarray  # int32: of each gene of the file, its place among `names`
    table: pd.DataFrame  # gene, ortholog, fate


def read_orthologs(path: Path) -> Orthologs:
    """Read a CSV of two columns without a header: the name to give, and the gene that gets it."""
    what = "a CSV without a header: name in the other species, name in this species"
    found = defaultdict(set)
    with existing(path, what).open(newline="", encoding="utf-8-sig") as lines:
        for number, line in enumerate(csv.reader(lines), start=1):
            if len(line) != 2:
                raise InputError(
                    f"{path} has {len(line)} columns in line {number}; expected two: {what}."
                )
            other, gene = (name.strip() for name in line)
            if gene:
                found[gene] |= {other} - {""}
    if not found:
        raise InputError(f"{path} names no gene in its second column; expected {what}.")
    return {gene: tuple(sorted(others)) for gene, others in found.items()}


def translate(names: np.ndarray, orthologs: Orthologs) -> Translation:
    """Call genes by their orthologs; genes of one ortholog get one place, to be added up."""
    chosen, fates = zip(*(_chosen(name, orthologs) for name in names.tolist()), strict=True)
    numbers = pd.Series(chosen).value_counts()
    shared = set(numbers.index[numbers > 1]) - {""}
    fates = [
        "added" if fate == "one_to_one" and other in shared else fate
        for other, fate in zip(chosen, fates, strict=True)
    ]
    # Genes without a name stay apart: their counts are part of a cell's total.
    keys = [other or (gene,) for other, gene in zip(chosen, names.tolist(), strict=True)]
    first, place = {}, np.empty(len(names), dtype=np.int32)
    for column, key in enumerate(keys):
        place[column] = first.setdefault(key, len(first))
    called = np.array(["" if isinstance(key, tuple) else key for key in first], dtype=str)
    table = pd.DataFrame({"gene": names.astype(object), "ortholog": chosen, "fate": fates})
    return Translation(called, place, table)


def _chosen(name: str, orthologs: Orthologs) -> tuple[str, str]:
    others = orthologs.get(name)
    if others is None:
        return "", "unknown"
    if not others:
        return "", "none"
    if len(others) == 1:
        return others[0], "one_to_one"
    same = [other for other in others if other.upper() == name.upper()]
    return (same[0], "same_spelling") if len(same) == 1 else ("", "ambiguous")


def refuse_none(table: pd.DataFrame, orthologs: Orthologs, where: str, path: Path) -> None:
    """Refuse a table that has nothing to say of a file's genes, and say what may be the reason."""
    if (table["fate"] != "unknown").any():
        return
    genes = set(table["gene"])
    others = {other for names in orthologs.values() for other in names}
    hint = "Give the table of this species, with names as the file has them."
    if genes & others:
        hint = "They stand in the first column: exchange the columns, or leave orthologs out."
    elif {gene.upper() for gene in genes} & {gene.upper() for gene in orthologs}:
        hint = "They differ in upper and lower case only."
    raise InputError(
        f"{where}: none of {len(genes)} genes ({listed(sorted(genes), 3)}) stands in the second "
        f"column of {path} ({listed(sorted(orthologs), 3)}). {hint}"
    )
