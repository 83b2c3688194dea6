"""Pairs of cells for finetuning, and the start of a run, beside cell-gears itself.

Theirs is a batch of its loader, 64 graphs of all 18,080 genes, and the 1,536 that scGPT's loop then
takes. Ours are 1,536 genes of a control drawn anew and of the perturbed cell, and the flags.
"""

import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from tests.benchmarks.conversion import GEARS, give_normalised_values
from tests.benchmarks.full_size import NUM_CELLS
from tests.benchmarks.measuring import Row, row, run
from tests.benchmarks.screens import CONTROL_SHARE, NUM_BATCHES, write_screen

SMALL = 5_000
# Of the screen of full size: before the first batch no value is read, so few will do.
DETECTED = 50
HERE = (sys.executable, "-W", "ignore", "-m", "tests.benchmarks.our_finetuning")
THERE = (GEARS, "-W", "ignore", "tests/benchmarks/gears_peer.py")


def batches(folder: Path, repeats: int = 5) -> list[Row]:
    """Both sides in turns; every condition's values are compared first."""
    ours, theirs = small_screen(folder)
    for task in ("disk", "memory"):
        run(*HERE, task, ours)  # the first run compiles the loops
    turns = []
    for _ in range(repeats):
        turn = {task: run(*HERE, task, ours) for task in ("disk", "memory")}
        turn["peer"] = run(*THERE, "batches", theirs)
        print({task: f"{its['ms']:.2f} CPU ms" for task, its in turn.items()}, flush=True)
        turns.append(turn)
    check_same_values(turns[0]["memory"]["sums"], turns[0]["peer"]["sums"])
    version = f"cell-gears {turns[0]['peer']['version']}"

    def figures(task: str, key: str) -> list[float]:
        return [turn[task][key] for turn in turns]

    peer, unit = figures("peer", "ms"), "CPU ms per 64 pairs"
    held, peer_held = figures("memory", "kb_per_cell"), figures("peer", "kb_per_cell")
    return [
        row("perturbation_batch", figures("disk", "ms"), peer, unit, version, floor=2.5),
        row("perturbation_batch_held", figures("memory", "ms"), peer, unit, version, floor=2.5),
        row("perturbation_batch_memory", held, peer_held, "KB per cell", version, floor=5),
    ]


def start(folder: Path, repeats: int = 3) -> list[Row]:
    """Up to the first batch that the objective is given: 221,273 cells, a model of scGPT's size."""
    whole = full_screen(folder)
    _, theirs = small_screen(folder)
    run(*HERE, "start", whole)
    turns = [(run(*HERE, "start", whole), run(*THERE, "start", theirs)) for _ in range(repeats)]
    for our, its in turns:
        print(
            f"ours {our['cpu']:.1f} CPU s, {our['wall']:.1f} s, {our['peak_mb']:.0f} MB; "
            f"cell-gears with {SMALL:,} cells {its['cpu']:.1f} CPU s, {its['peak_mb']:.0f} MB",
            flush=True,
        )
    scale = NUM_CELLS / SMALL
    version = f"cell-gears {turns[0][1]['version']} at {SMALL:,} cells, scaled"
    cpu, peak = ([our[key] for our, _ in turns] for key in ("cpu", "peak_mb"))
    peer, peer_peak = ([its[key] * scale for _, its in turns] for key in ("cpu", "peak_mb"))
    return [
        row("start_up_finetune", cpu, peer, "CPU s", version),
        row("start_up_finetune_memory", peak, peer_peak, "MB", version),
    ]


def small_screen(folder: Path) -> tuple[Path, Path]:
    """Made once, by both sides."""
    ours, theirs = folder / f"pairs_{SMALL}", folder / f"pairs_{SMALL}_gears"
    if not (ours / "perturb_processed.h5ad").exists():
        raw = folder / f"raw_{SMALL}.h5ad"
        write_screen(raw, SMALL)
        convert(raw, ours)
    if not (theirs / "peer/data_pyg/cell_graphs.pkl").exists():
        give_normalised_values(ours / "perturb_processed.h5ad", theirs)
        run(*THERE, "process", theirs)
    return ours, theirs


def full_screen(folder: Path) -> Path:
    made = folder / f"few_counts_{NUM_CELLS}"
    if not (made / "perturb_processed.h5ad").exists():
        raw = folder / f"raw_few_counts_{NUM_CELLS}.h5ad"
        write_few_counts(raw)
        convert(raw, made)
    return made


def write_few_counts(path: Path, num_genes: int = 18_080, num_targets: int = 150) -> None:
    """As many cells, genes and labels as the challenge has, and 50 genes detected in each cell."""
    generator = np.random.default_rng(0)
    width = num_genes // DETECTED
    steps_CD = generator.integers(0, width, (NUM_CELLS, DETECTED), dtype=np.int32)
    columns = (steps_CD + np.arange(DETECTED, dtype=np.int32) * width).ravel()
    counts = generator.integers(1, 9, len(columns)).astype(np.float32)
    starts = np.arange(NUM_CELLS + 1) * DETECTED
    genes = np.array([f"G{number:05d}" for number in range(num_genes)])
    labels = np.append(generator.choice(genes, num_targets, replace=False), "non-targeting")
    target_C = generator.integers(0, num_targets, NUM_CELLS)
    target_C[generator.random(NUM_CELLS) < CONTROL_SHARE] = num_targets
    batch_C = generator.integers(0, NUM_BATCHES, NUM_CELLS).astype(str)
    obs = pd.DataFrame(
        {
            "target_gene": pd.Categorical.from_codes(target_C, labels),
            "batch": pd.Categorical(batch_C),
        },
        index=[f"cell{number:07d}" for number in range(NUM_CELLS)],
    )
    values = sp.csr_matrix((counts, columns, starts), (NUM_CELLS, num_genes))
    ad.AnnData(values, obs, pd.DataFrame(index=genes)).write_h5ad(path)


def convert(raw: Path, made: Path) -> None:
    run(sys.executable, "-m", "tests.benchmarks.our_conversion", "convert", raw, made)


def check_same_values(ours: dict[str, float], theirs: dict[str, float]) -> None:
    assert ours.keys() == theirs.keys()
    assert len(ours) > 100
    wrong = {name for name in ours if abs(ours[name] / theirs[name] - 1) > 1e-5}
    assert not wrong, wrong
