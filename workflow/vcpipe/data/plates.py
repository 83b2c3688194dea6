"""Plates of labelled cells, as Tahoe-100M has them: files by number, and what to classify."""

# C cells, T tasks

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.config.loader import TASKS, plate_numbers
from vcpipe.data.loading.fetched_cells import FetchedCells
from vcpipe.data.loading.h5ad_reader import H5adReader
from vcpipe.data.loading.reader import LabelCodes, Reader
from vcpipe.errors import InputError, listed
from vcpipe.files import digest, fingerprint, read_json

PLATE = "plate"
DRUG = "drug"
MECHANISMS = ("moa-broad", "moa-fine")  # that follow from the drug
CELLS_AT_A_TIME = 2**22  # of which labels are held as the reader gives them


def find_plates(folder: Path, numbers: Sequence[int]) -> dict[int, Path]:
    """The files of some plates, in the order of numbers.

    Tahoe-100M's plate14_filt_Vevo_Tahoe100M_WServicesFrom_ParseGigalab.h5ad is plate 14.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"loader.data.h5ad_dir: {folder} is no folder; expected one with an h5ad file for each "
            f"of the plates {listed(sorted(numbers), 20)}."
        )
    paths = sorted(path for path in folder.glob("*.h5ad") if not path.name.startswith("."))
    found: dict[int, list[Path]] = {}
    for path in paths:
        for number in plate_numbers(path.name):
            found.setdefault(number, []).append(path)
    missing = [number for number in numbers if number not in found]
    if missing:
        shown = listed([path.name for path in paths], 20) or "no h5ad file"
        raise InputError(
            f"loader.data.h5ad_dir: {folder} has no file of plate {listed(sorted(missing), 20)}; "
            f"there is {shown}. Expected names that hold plate<number>: plate14.h5ad."
        )
    for number in numbers:
        if len(found[number]) > 1:
            raise InputError(
                f"loader.data.h5ad_dir: {folder} has {len(found[number])} files of plate {number}: "
                f"{listed(path.name for path in found[number])}. Keep one of them there."
            )
    return {number: found[number][0] for number in numbers}


def open_plates(paths: Sequence[Path], max_cells: int | None = None) -> H5adReader:
    """The cells of plates as they lie in their files, all or the first of them."""
    reader = H5adReader(list(paths))
    if max_cells is None or max_cells >= len(reader):
        return reader
    return H5adReader(list(paths), stop=max_cells)


class EvenlySpaced:
    """So many cells of plates, from all over them: the first ones would hold a few drugs."""

    block_size = 1

    def __init__(self, reader: H5adReader, num_cells: int | None):
        num_cells = min(num_cells or len(reader), len(reader))
        self.reader = reader
        self.cells = np.arange(num_cells, dtype=np.int64) * len(reader) // num_cells

    def __len__(self) -> int:
        return len(self.cells)

    def read(self, positions: np.ndarray) -> FetchedCells:
        return replace(self.reader.read(self.cells[positions]), positions=positions)

    def label_codes(self, columns: Sequence[str]) -> LabelCodes:
        found = self.reader.label_codes(columns)
        codes = found.codes(0, len(self.reader))[self.cells]
        return LabelCodes(found.words, lambda first, stop: codes[first:stop])


def digest_of(paths: Sequence[Path]) -> str:
    """A hash of plates' content: of sizes and evenly spaced parts."""
    return digest([fingerprint(path) for path in paths])


def origin_of(plates: Sequence[Path], max_cells: int | None) -> dict:
    """What says of a store or a collection which cells it was written from."""
    return {"plates_digest": digest_of(plates), "max_train_cells": max_cells}


def label_table(reader: Reader, columns: Sequence[str]) -> pd.DataFrame:
    """Some labels of all cells, as obs columns."""
    table = {}
    for column in columns:
        found = reader.label_codes([column])
        names = [word for (word,) in found.words]
        table[column] = pd.Categorical.from_codes(found.codes(0, len(reader)), names)
    return pd.DataFrame(table, index=[f"cell{number}" for number in range(len(reader))])


@dataclass(frozen=True)
class LabelMaps:
    """What a folder of labels says; empty where labels are obs columns."""

    of_drugs: Mapping[str, Mapping[str, str]]  # by mechanism
    classes: Mapping[str, Sequence[str]]  # by task


def read_label_maps(folder: Path | None) -> LabelMaps:
    """Read <task>.json: of both mechanisms {drug: label}, of others, where these are, classes."""
    if folder is None:
        return LabelMaps({}, {})
    folder = Path(folder)
    paths = {task: folder / f"{task}.json" for task in TASKS}
    missing = [paths[task].name for task in MECHANISMS if not paths[task].exists()]
    if missing:
        pickles = sorted(path.name for path in folder.glob("*.pkl"))
        hint = (
            f"It has {listed(pickles)}: reading a pickle runs whatever code it holds, so write "
            "them as JSON."
            if pickles
            else "Write what is missing as {drug: label}, or set loader.data.label_dir: null to "
            f"take obs columns {listed(TASKS)}."
        )
        raise InputError(
            f"loader.data.label_dir: {folder} has no {listed(missing)}; expected the labels of "
            f"drugs in {listed(paths[task].name for task in MECHANISMS)}, and classes in "
            "cell_line.json and drug.json where these are wanted. " + hint
        )
    of_drugs, classes = {}, {}
    for task, path in paths.items():
        if not path.exists():
            continue
        what = "{drug: label}" if task in MECHANISMS else "a list of classes"
        content = read_json(path, what)
        wanted = dict if task in MECHANISMS else list
        texts = content.values() if isinstance(content, dict) else content
        if not isinstance(content, wanted) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{path} holds no {what}, of text; correct it, or remove the file.")
        if task in MECHANISMS:
            of_drugs[task] = content
        else:
            classes[task] = list(dict.fromkeys(content))
    return LabelMaps(of_drugs, classes)


@dataclass(frozen=True)
class CellLabels:
    """Labels of a reader's cells: their names by task (and plate), and of each cell a number."""

    names: Mapping[str, Sequence[str]]
    codes: Mapping[str, np.ndarray]  # int16 [C]


def read_labels(reader: Reader, maps: LabelMaps, where: str) -> CellLabels:
    """Labels of all cells for every task, and their plates; `where` is for messages."""
    names, codes = {}, {}
    for column in (PLATE, *TASKS):
        its = maps.of_drugs.get(column)
        names[column], codes[column] = _column(reader, DRUG if its else column, where)
        if its:
            names[column] = _mapped(names[column], codes[column], its, column)
    return CellLabels(names, codes)


def _column(reader: Reader, column: str, where: str) -> tuple[list[str], np.ndarray]:
    found = reader.label_codes([column])
    names = [word for (word,) in found.words]
    assert len(names) < 2**15, "int16 holds the number of each label"
    codes = np.empty(len(reader), dtype=np.int16)
    for first in range(0, len(reader), CELLS_AT_A_TIME):
        last = min(first + CELLS_AT_A_TIME, len(reader))
        codes[first:last] = found.codes(first, last)
    missing = codes < 0
    if missing.any():
        raise InputError(
            f"{where}: {missing.sum()} cells have no {column}"
            f"{_on_plates(reader, missing) if column != PLATE else ''}; expected a label for every "
            "cell. Remove these cells from the files, or name them (unknown)."
        )
    return names, codes


def _on_plates(reader: Reader, missing: np.ndarray) -> str:
    found = reader.label_codes([PLATE])
    plates = found.codes(0, len(reader))[missing]
    numbers = np.bincount(plates[plates >= 0], minlength=len(found.words))
    shown = [f"{numbers[place]} of {found.words[place][0]}" for place in np.flatnonzero(numbers)]
    return f" ({listed(shown)})" if shown else ""


def _mapped(
    drugs: Sequence[str], codes: np.ndarray, labels: Mapping[str, str], task: str
) -> list[str]:
    used = {drugs[code] for code in np.unique(codes)}
    unknown = sorted(used - {*labels})
    if unknown:
        raise InputError(
            f"loader.data.label_dir: {task}.json has no label of the drugs {listed(unknown)}; add "
            "them."
        )
    return [labels.get(drug, "") for drug in drugs]


def learn_classes(labels: CellLabels, maps: LabelMaps) -> dict[str, list[str]]:
    """By task, in alphabetical order: what the training cells are labelled with, or was given."""
    classes = {}
    for task in TASKS:
        seen = {labels.names[task][code] for code in np.unique(labels.codes[task])}
        given = maps.classes.get(task, sorted(seen))
        unknown = sorted(seen - {*given})
        if unknown:
            raise InputError(
                f"loader.data.label_dir: {task}.json lacks {listed(unknown)}, which training cells "
                "have; add them."
            )
        classes[task] = sorted(given)
    return classes


def encode(
    labels: CellLabels, classes: Mapping[str, Sequence[str]]
) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Classes of cells as numbers (int16 [C, T]), and the labels that no class is called.

    These get numbers of their own behind the classes, so that no prediction is ever right there.
    """
    codes_CT = np.empty((len(labels.codes[TASKS[0]]), len(TASKS)), dtype=np.int16)
    unknown = {}
    for place, task in enumerate(TASKS):
        used = {labels.names[task][code] for code in np.unique(labels.codes[task])}
        unknown[task] = sorted(used - {*classes[task]})
        number = {name: code for code, name in enumerate([*classes[task], *unknown[task]])}
        by_name = np.array([number.get(name, -1) for name in labels.names[task]], dtype=np.int16)
        codes_CT[:, place] = by_name[labels.codes[task]]
    return codes_CT, unknown
