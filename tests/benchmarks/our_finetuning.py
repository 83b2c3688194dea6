"""What our batches for finetuning take, and the start of a run, as JSON.

python -m tests.benchmarks.our_finetuning disk|memory FOLDER: batches of FOLDER's screen
python -m tests.benchmarks.our_finetuning start FOLDER: finetune, up to the first batch
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.our_conversion import peak_mb

SIZE = 64


def batches(folder: Path, is_held: bool) -> dict:
    from vcpipe.config.finetune import Perturbation
    from vcpipe.config.loading import Loading
    from vcpipe.data.grouped_values import groups_of, joined
    from vcpipe.data.loading.loader import Loader
    from vcpipe.data.loading.plans import Share
    from vcpipe.data.perturbation_batches import KnownGenes, PerturbationBatches, ValuesInMemory
    from vcpipe.data.screen import open_screen

    screen = open_screen(folder / "perturb_processed.h5ad")
    rows, columns = np.arange(len(screen.cells)), np.arange(len(screen.genes))
    known = KnownGenes(columns, columns, {name: i for i, name in enumerate(screen.genes)})
    controls = np.flatnonzero(screen.condition == "ctrl")
    paired = np.where(screen.condition == "ctrl", rows, controls[0])
    made = PerturbationBatches(screen, known, rows, paired, Perturbation(), controls)
    found = {}
    if is_held:
        held = made.rows()
        groups = joined(list(groups_of(screen, columns, held)))
        made.values = ValuesInMemory(groups, held, known)
        found["kb_per_cell"] = groups.num_bytes / len(rows) / 1000
    loader = Loader(made, Loading(), Share(0, 1, SIZE, 256), seed=0)
    first = next(loader.steps(epoch=0))  # loads the loops
    assert first["perturbed"].shape == first["flags"].shape == (SIZE, 1536)
    began = time.process_time()
    num_batches = sum(1 for _ in loader.steps(epoch=1))
    found["ms"] = (time.process_time() - began) / num_batches * 1000
    if is_held:
        found["sums"] = sums(screen)
    return found


def sums(screen) -> dict[str, float]:
    """All values of each perturbation's cells."""
    total = {}
    for rows, values in screen.chunks():
        cells = np.asarray(values.sum(axis=1, dtype=np.float64)).ravel()
        for condition, its in zip(screen.condition[rows].tolist(), cells.tolist(), strict=True):
            total[condition] = total.get(condition, 0.0) + its
    total.pop("ctrl")
    return total


class Started(Exception):
    """The objective was given its first batch."""


def start(folder: Path) -> dict:
    began = time.perf_counter()
    from scripts import finetune_perturbation, pair_controls, split_perturbations
    from vcpipe.training import finetuning

    cells = folder / "perturb_processed.h5ad"
    tables = {name: folder / name for name in ("split", "controls", "pairs")}
    base = folder / "base"
    if not base.exists():
        both = [f"--{name}={tables[name]}" for name in ("controls", "pairs")]
        pair_controls.main([f"--cells={cells}", *both])
        pickles = [f"--{name}={folder / name}.pkl" for name in ("pickle", "subgroup")]
        split_perturbations.main([f"--cells={cells}", f"--table={tables['split']}", *pickles])
        write_base(cells, base)
        return {}

    def first_batch(model, batch, config, generator) -> None:
        assert batch["control"].shape == (SIZE, 1536)
        raise Started

    finetuning.OBJECTIVES["perturbation"] = first_batch
    outputs = {name: folder / "run" / name for name in ("state", "out", "metrics")}
    settings = {"dataset": "vcc", "split": "s", "pretrained": str(base)}
    settings |= {"training": {"batch_size": SIZE}, "scheduler": {"name": "step"}}
    sys.stdout, out = sys.stderr, sys.stdout
    inputs = {"cells": cells, "pretrained": base} | tables
    arguments = [f"--{name}={path}" for name, path in (inputs | outputs).items()]
    try:
        finetune_perturbation.main([*arguments, f"--config={json.dumps(settings)}"])
    except Started:
        sys.stdout = out
    wall = time.perf_counter() - began
    return {"cpu": time.process_time(), "wall": wall, "peak_mb": peak_mb()}


def write_base(cells: Path, out: Path) -> None:
    """Random weights in the size of scGPT's whole-human model, which knows the screen's genes."""
    from vcpipe.config.model import Transformer
    from vcpipe.data.screen import open_screen
    from vcpipe.data.vocabulary import build_vocabulary
    from vcpipe.models.scgpt import TransformerGenerator
    from vcpipe.training.checkpoints import write_folder

    others = [f"OTHER{number:05d}" for number in range(60_697 - 3)]
    names = [*open_screen(cells).genes.tolist(), *others][: 60_697 - 3]
    vocabulary = build_vocabulary(names, ["<pad>", "<cls>", "<eoc>"])
    model = TransformerGenerator(Transformer(), len(vocabulary), vocabulary.ids["<pad>"])
    write_folder(out, model.state_dict(), Transformer(), vocabulary, {}, {}, Path(os.devnull))


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    result = start(folder) if task == "start" else batches(folder, is_held=task == "memory")
    print(json.dumps(result))
