"""A simulated screen in the files that the earlier steps write: cells, split and controls."""

# C cells, G genes

import json
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from vcpipe.data.screen import names_digests

GENES = [f"GENE{i:02d}" for i in range(60)]
NUM_CONTROLS = 200
CELLS_EACH = 20


@dataclass(frozen=True)
class Files:
    cells: Path
    split: Path
    controls: Path


@pytest.fixture
def simulate(tmp_path):
    """A function that writes a screen of 16 train and 8 test targets; effect 0 is a null screen."""

    def write(effect: float, seed: int = 0, name: str = "screen", change=None) -> Files:
        generator = np.random.default_rng(seed)
        targets = GENES[:24]
        condition = np.array(
            ["ctrl"] * NUM_CONTROLS + [f"{t}+ctrl" for t in targets for _ in range(CELLS_EACH)]
        )
        mean_CG = np.tile(generator.gamma(2.0, 5.0, len(GENES)), (len(condition), 1))
        # What all perturbations share, and what is each one's own.
        mean_CG[condition != "ctrl", 50:] *= np.exp(2 * effect)
        for target in targets:
            change_G = effect * generator.normal(size=len(GENES))
            mean_CG[condition == f"{target}+ctrl"] *= np.exp(change_G)
        counts_CG = generator.poisson(mean_CG).astype(np.float32)
        if change is not None:
            counts_CG = change(counts_CG, condition)
        folder = tmp_path / name
        folder.mkdir()
        files = Files(folder / "cells.h5ad", folder / "split.tsv", folder / "controls.tsv")
        _write_screen(files.cells, counts_CG, condition)
        _write_split(files, condition, targets)
        return files

    return write


def _write_screen(path: Path, counts_CG: np.ndarray, condition: np.ndarray) -> None:
    values_CG = np.log1p(1e4 * counts_CG / counts_CG.sum(axis=1, keepdims=True))
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(condition),
            "batch": pd.Categorical(["b0"] * len(condition)),
            "cell_type": pd.Categorical(["K562"] * len(condition)),
        },
        index=[f"cell{i:04d}" for i in range(len(condition))],
    )
    var = pd.DataFrame({"gene_name": GENES}, index=[f"ENSG{i:03d}" for i in range(len(GENES))])
    settings = {"normalisation": {"target_sum": 1e4}}
    about = {"data_digest": "d1", "name": "tiny", "settings": settings}
    about |= names_digests(obs.index, GENES)
    ad.AnnData(
        sp.csr_matrix(values_CG),
        obs,
        var,
        layers={"counts": sp.csr_matrix(counts_CG)},
        uns={"vcpipe": json.dumps(about)},
    ).write_h5ad(path)


def _write_split(files: Files, condition: np.ndarray, targets: list[str]) -> None:
    rows = [("ctrl", "train", "ctrl", NUM_CONTROLS)]
    for number, target in enumerate(targets):
        part = "test" if number % 3 == 0 else "train"
        subgroup = "unseen_single" if part == "test" else "train"
        rows.append((f"{target}+ctrl", part, subgroup, CELLS_EACH))
    columns = ["condition", "set", "subgroup", "num_cells"]
    pd.DataFrame(rows, columns=columns).to_csv(files.split, sep="\t", index=False)
    controls = np.flatnonzero(condition == "ctrl")
    use = np.where(np.arange(len(controls)) % 2, "model", "scoring")
    names = [f"cell{i:04d}" for i in controls]
    pd.DataFrame({"cell": names, "use": use}).to_csv(files.controls, sep="\t", index=False)
