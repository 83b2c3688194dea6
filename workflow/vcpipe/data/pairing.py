"""Which control cell stands beside each perturbed cell: one row a cell, drawn once and stored."""

# C cells, K pools of cells that may be paired with each other

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.data.screen import CONTROL, Screen, check_same_screen
from vcpipe.data.splits import SplitTable, control_rows, sets_of_cells
from vcpipe.errors import InputError, listed
from vcpipe.files import existing, writing

NOBODY = -1  # stands beside a control cell that is kept for scoring


@dataclass(frozen=True)
class Pairs:
    """The pairs of a screen, as pair_controls stores them."""

    path: Path
    control_row: np.ndarray  # int32, one entry a cell
    about: dict  # data_digest of the screen, settings of the draw

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.control_row.astype("<i4").tobytes()).hexdigest()[:16]


def pair_controls(
    screen: Screen, controls: dict[str, str], within: str, generator: np.random.Generator
) -> np.ndarray:
    """For each cell the row of a control of the models' half, drawn with replacement.

    A control cell of that half stands beside itself, one kept for scoring beside nobody (-1). Cells
    draw in the order of their names, so pairs do not depend on the order of rows.
    """
    pool_C = _pools(screen, within)
    model = control_rows(screen, controls, "model")
    partners = model[np.lexsort((screen.cells[model], pool_C[model]))]
    num_K = np.bincount(pool_C[partners], minlength=pool_C.max() + 1)
    first_K = np.cumsum(num_K) - num_K
    by_name = np.argsort(screen.cells)
    perturbed = by_name[screen.condition[by_name] != CONTROL]
    pool = pool_C[perturbed]
    if (num_K[pool] == 0).any():
        raise InputError(_no_controls(screen, perturbed[num_K[pool] == 0], within))
    control_row = np.full(len(screen.cells), NOBODY, dtype=np.int32)
    control_row[model] = model
    control_row[perturbed] = partners[first_K[pool] + generator.integers(num_K[pool])]
    return control_row


def _pools(screen: Screen, within: str) -> np.ndarray:
    """Number each cell by what it shares with the controls that may stand beside it."""
    shared = {
        "screen": [],
        "cell_type": [screen.cell_type],
        "batch": [screen.batch, screen.cell_type],
    }
    pool_C = np.zeros(len(screen.cells), dtype=np.int64)
    for label_C in shared[within]:
        codes_C, labels = pd.factorize(label_C)
        pool_C = pool_C * len(labels) + codes_C
    return pool_C


def _no_controls(screen: Screen, lonely: np.ndarray, within: str) -> str:
    if within == "screen":
        return f"{screen.path} has no control cells for models; expected some of {CONTROL!r}."
    what, labels, remedy = {
        "cell_type": ("Cell type", screen.cell_type, "screen"),
        "batch": (
            "Batch",
            screen.batch,
            "cell_type, or merge batches (datasets.<name>.batch_key)",
        ),
    }[within]
    return (
        f"{what} {listed(np.unique(labels[lonely]))} of {screen.path} has {len(lonely)} perturbed "
        "cells and no control cell of their cell type for models, so none can be paired within it. "
        f"Set gears.pairing.within to {remedy}."
    )


def write_pairs(path: Path, control_row: np.ndarray, about: dict) -> None:
    """Write arrays only, so that no reader needs pickle; `about` is JSON in one of them."""
    with writing(path) as partial, partial.open("wb") as handle:
        np.savez(
            handle,
            allow_pickle=False,
            control_row=control_row,
            about=np.array(json.dumps(about, sort_keys=True)),
        )


def read_pairs(path: Path, screen: Screen) -> Pairs:
    """Read the pairs of this screen; rows of other data, or in another order, mean other cells."""
    existing(path, "the pairs that pair_controls writes")
    # np.load also takes an array (.npy), and a folder is none of its errors.
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{path} holds no pairs (it is no npz); expected what pair_controls writes."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            pairs = Pairs(Path(path), file["control_row"], json.loads(str(file["about"])))
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise InputError(
            f"{path} holds no pairs ({error}); expected what pair_controls writes."
        ) from error
    check_same_screen(path, pairs.about, screen)
    if pairs.control_row.shape != screen.cells.shape:
        raise InputError(
            f"{path} holds pairs of {len(pairs.control_row)} cells, but {screen.path} has "
            f"{len(screen.cells)}; rerun pair_controls."
        )
    return pairs


def check_same_controls(pairs: Pairs, screen: Screen, controls: dict[str, str]) -> None:
    """Refuse pairs of other halves: a partner could be a control that is kept for scoring."""
    beside_themselves = np.flatnonzero(pairs.control_row == np.arange(len(screen.cells)))
    others = np.setxor1d(beside_themselves, control_rows(screen, controls, "model"))
    if len(others):
        raise InputError(
            f"{pairs.path} and the table of controls differ in whether models may see "
            f"{listed(screen.cells[others])}; expected the controls.tsv that pair_controls wrote "
            "with it."
        )


def check_own_contexts(pairs: Pairs, screen: Screen, split: SplitTable) -> None:
    """Where contexts are held out, refuse a cell beside a control of another set."""
    if not split.context_key:
        return
    set_C = sets_of_cells(screen, split)
    paired = np.flatnonzero(pairs.control_row != NOBODY)
    strays = paired[set_C[paired] != set_C[pairs.control_row[paired]]]
    if len(strays):
        raise InputError(
            f"{pairs.path} pairs {len(strays)} cells with controls of a {split.context_key} that "
            "the split keeps apart from theirs; set gears.pairing.within to "
            f"{split.context_key}, so that a cell and its control share it."
        )
