"""Cells of listed targets at the Virtual Cell Challenge's 18,080 genes: memory, time, size.

python -m tests.benchmarks.prediction prepare FOLDER [NUM_CELLS]
python -m tests.benchmarks.prediction predict FOLDER BASELINE NUM_TARGETS CELLS_EACH [counts=true]
"""

import json
import resource
import shutil
import sys
import time
from pathlib import Path

import h5py

from scripts import (
    convert_to_gears,
    fit_baseline,
    pair_controls,
    predict_perturbations,
    split_perturbations,
)
from tests.benchmarks.measuring import Row, run
from tests.benchmarks.screens import write_screen

BASELINES = ("no_change", "train_mean")


def prediction(folder: Path) -> list[Row]:
    """Peak memory of four times as many targets beside that of the fewer."""
    made = folder / "predict"
    if not made.exists():
        run(sys.executable, "-m", "tests.benchmarks.prediction", "prepare", made)
    few, many = (predicted(made, "no_change", targets, 500) for targets in (5, 20))
    return [
        Row(
            benchmark="predict_memory",
            ours=many["peak_mb"],
            peer=few["peak_mb"],
            unit="MB",
            ratio=few["peak_mb"] / many["peak_mb"],
            floor=0.95,
            spread="1 run",
            peer_version="ours with 5 targets instead of 20",
        )
    ]


def predicted(folder: Path, baseline: str, num_targets: int, cells_each: int, *settings) -> dict:
    what = (baseline, num_targets, cells_each, *settings)
    return run(sys.executable, "-m", "tests.benchmarks.prediction", "predict", folder, *what)


def held_out(folder: Path) -> list[str]:
    names = {"cells": "perturb_processed.h5ad", "split": "split.tsv", "controls": "controls.tsv"}
    return [f"--{option}={folder / name}" for option, name in names.items()]


def prepare(folder: Path, num_cells: int = 4000) -> None:
    """A converted screen with its split, its halves of the controls, and fitted baselines."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_screen(folder / "raw.h5ad", num_cells, num_targets=20)
    cells, split, controls = held_out(folder)
    out = cells.replace("--cells", "--out")
    report = f"--report={folder}/conversion.json"
    convert_to_gears.main([f"--cells={folder}/raw.h5ad", "--name=vcc", out, report])
    (folder / "raw.h5ad").unlink()
    pair_controls.main([cells, controls, f"--pairs={folder}/pairs.npz"])
    tables = [split.replace("--split", "--table"), f"--pickle={folder}/split.pkl"]
    split_perturbations.main([cells, *tables, f"--subgroup={folder}/subgroup.pkl"])
    for baseline in BASELINES:
        which = (f"--baseline={baseline}", f"--out={folder}/{baseline}.npz")
        fit_baseline.main([*held_out(folder), *which])
    print(json.dumps({"num_cells": num_cells}))


def predict(folder: Path, baseline: str, num_targets: int, cells_each: int, *settings) -> None:
    """Predict so many cells and print what it took."""
    with h5py.File(folder / "perturb_processed.h5ad") as file:
        genes = file["var/gene_name"].asstr()[:num_targets]
    rows = [f"{gene},{cells_each},50000" for gene in genes]
    targets, out = folder / "list.csv", folder / "predicted.h5ad"
    targets.write_text("\n".join(["target_gene,n_cells,median_umi_per_cell", *rows]))
    began = time.perf_counter()
    what = (f"--model={folder}/{baseline}.npz", f"--targets={targets}", f"--out={out}")
    predict_perturbations.main([*held_out(folder), *what, f"--name={baseline}", *settings])
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "peak_mb": used.ru_maxrss / 1024,
        "cpu": used.ru_utime + used.ru_stime,
        "wall": time.perf_counter() - began,
        "file_mb": out.stat().st_size / 1e6,
    }
    out.unlink()
    print(json.dumps(found))


if __name__ == "__main__":
    name, place, *rest = sys.argv[1:]
    if name == "prepare":
        prepare(Path(place), *map(int, rest))
    else:
        predict(Path(place), rest[0], int(rest[1]), int(rest[2]), *rest[3:])
