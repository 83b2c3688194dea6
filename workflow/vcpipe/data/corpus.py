"""All cells of a corpus, opened, each with the set that it belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcpipe.config.atlases import Atlas
from vcpipe.config.fitting import CellSplit
from vcpipe.data.cell_sets import LEFT_OUT, TEST, TRAIN, draw_cell_sets
from vcpipe.data.preprocessing_record import PreprocessingRecord
from vcpipe.data.screen import Screen, open_screen
from vcpipe.data.seen import seen_of
from vcpipe.data.sources.atlas import open_atlas
from vcpipe.data.sources.screens import ScreenCells
from vcpipe.data.sources.source import CellSource
from vcpipe.data.splits import read_controls, read_split, training_rows
from vcpipe.errors import InputError


@dataclass(frozen=True)
class Corpus:
    sources: list[CellSource]
    sets: list[np.ndarray]  # of each source's cells, codes as in cell_sets
    seen: dict[str, dict]  # of each screen, by its data digest
    holds_out: bool  # whether screens are without their held-out cells


def open_corpus(
    screens: list[Path],
    splits: list[Path],
    controls: list[Path],
    atlases: Mapping[str, Atlas],
    cell_split: CellSplit,
) -> Corpus:
    """Open atlases, and converted screens with a split and a table of controls each, or neither."""
    if {len(splits), len(controls)} - {0, len(screens)} or len(splits) != len(controls):
        raise InputError(
            f"{len(screens)} --screens, {len(splits)} --split, {len(controls)} --controls; "
            "expected as many of each, or neither --split nor --controls."
        )
    sources, sets, seen = [], [], {}
    for number, path in enumerate(screens):
        screen = open_screen(path)
        rows = np.arange(len(screen.cells))
        if splits:
            its = read_split(splits[number]), read_controls(controls[number])
            rows = training_rows(screen, *its)
        sources.append(ScreenCells(screen))
        sets.append(_training_set(screen, rows))
        seen[screen.data_digest] = seen_of(screen, rows)
    opened = [part for name in sorted(atlases) for part in open_atlas(name, atlases[name])]
    _refuse_same_cells([*sources, *opened])
    sets += draw_cell_sets(opened, cell_split)
    return Corpus([*sources, *opened], sets, seen, bool(splits))


def open_new_cells(
    screens: list[Path], atlases: Mapping[str, Atlas], record: PreprocessingRecord
) -> Corpus:
    """The same of cells that nothing was fitted on, and nothing learns from: all are for test."""
    sources = [ScreenCells(open_screen(path)) for path in screens]
    sources += [part for name in sorted(atlases) for part in open_atlas(name, atlases[name])]
    _refuse_same_cells(sources)
    _refuse_fitted(sources, record)
    sets = [np.full(len(source), TEST, dtype=np.uint8) for source in sources]
    return Corpus(sources, sets, {}, True)


def _refuse_same_cells(sources: list[CellSource]) -> None:
    """Under another name a cell has another key, and may be drawn for another set."""
    first: dict[str, CellSource] = {}
    for source in sources:
        for of in source.file_digests:
            other = first.setdefault(of, source)
            if other.dataset != source.dataset:
                raise InputError(
                    f"{source.path} of {source.dataset!r} and {other.path} of {other.dataset!r} "
                    "have the same content, and the same cell may be train in one and test in the "
                    "other; expected every file in one dataset or atlas of a corpus. Leave one out."
                )


def _refuse_fitted(sources: list[CellSource], record: PreprocessingRecord) -> None:
    fitted = {*record.files, *(of for its in record.sources.values() for of in its)}
    for source in sources:
        if fitted & {*source.file_digests, source.data_digest}:
            raise InputError(
                f"{source.path} of {source.dataset!r} is among the files that the preprocessing "
                "record was fitted on; expected new cells. Leave it out: prepare_cells without "
                "--new (preprocess without like) keeps the sets that were drawn of it."
            )


def _training_set(screen: Screen, rows: np.ndarray) -> np.ndarray:
    """Screens have cells for training and cells that no corpus holds."""
    sets = np.full(len(screen.cells), LEFT_OUT, dtype=np.uint8)
    sets[rows] = TRAIN
    return sets
