"""What our conversion takes, as JSON; time begins after the imports, as in gears_peer.py.

python -m tests.benchmarks.our_conversion convert RAW FOLDER
python -m tests.benchmarks.our_conversion graphs FOLDER
python -m tests.benchmarks.our_conversion start FOLDER
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from vcpipe.config.finetune import Perturbation
from vcpipe.config.gears import CellGraphs, Conversion
from vcpipe.config.splits import Split
from vcpipe.data.gears import convert as convert_to_gears
from vcpipe.data.model_cells import model_rows
from vcpipe.data.order import BatchDraw
from vcpipe.data.pairing import pair_controls
from vcpipe.data.perturbation_batches import KnownGenes, PerturbationBatches
from vcpipe.data.screen import Screen, open_screen
from vcpipe.data.splits import control_rows, draw_controls, draw_split


def convert(raw: Path, folder: Path) -> dict:
    about = convert_to_gears(raw, "ours", Conversion(), folder / "perturb_processed.h5ad")
    return {"num_cells": about["num_cells"]}


def graphs(folder: Path) -> dict:
    # torch is of this step alone.
    from vcpipe.training.cell_graphs import write_cell_graphs

    before = time.process_time()
    screen = open_screen(folder / "perturb_processed.h5ad")
    paired = paired_of(screen)
    settings = CellGraphs(include_scoring_controls=True)
    written = write_cell_graphs(folder / "cell_graphs.pkl", screen, paired, settings)
    return {"cpu": time.process_time() - before, "num_graphs": sum(written.values())}


def start(folder: Path) -> dict:
    """All that is read before training can begin, and the first batch."""
    screen = open_screen(folder / "perturb_processed.h5ad")
    split, _ = draw_split(screen, Split())
    controls = draw_controls(screen, 0)
    rows = model_rows(screen, split, controls)
    genes = np.arange(len(screen.genes))
    known = KnownGenes(genes, genes, {name: i for i, name in enumerate(screen.genes)})
    paired = paired_of(screen)
    pool = control_rows(screen, controls, "model")
    batches = PerturbationBatches(screen, known, rows["train"], paired, Perturbation(), pool)
    batch = batches.batch(batches.reader.read(np.arange(64)), np.arange(64), BatchDraw(0, 0))
    assert batch["perturbed"].shape == (64, min(1536, len(genes)))
    return {"num_cells": len(batches)}


def paired_of(screen: Screen) -> np.ndarray:
    controls = draw_controls(screen, 0)
    return pair_controls(screen, controls, "screen", np.random.default_rng(0))


def peak_mb() -> float:
    # getrusage would begin with what the parent process held.
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    before = time.process_time()
    found = {"convert": convert, "graphs": graphs, "start": start}[task](*map(Path, paths))
    cpu = time.process_time() - (0 if task == "start" else before)
    print(json.dumps({"cpu": cpu, "peak_mb": peak_mb()} | found))
