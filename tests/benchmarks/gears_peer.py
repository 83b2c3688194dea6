"""What cell-gears 0.1.2 takes for the same work, as JSON: run by its own Python, never by ours.

python tests/benchmarks/gears_peer.py process FOLDER: new_data_process of FOLDER/normalised.h5ad
python tests/benchmarks/gears_peer.py start FOLDER: open what that made, up to the first batch
python tests/benchmarks/gears_peer.py batches FOLDER: the same, and some batches
"""

import json
import os
import pickle
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scanpy as sc
import torch
from gears import PertData


def peak_mb() -> float:
    # getrusage would begin with what the parent process held.
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024


def process(folder: Path) -> dict:
    adata = sc.read_h5ad(folder / "normalised.h5ad")
    data = PertData(folder, default_pert_graph=False)
    before = time.process_time()
    data.new_data_process("peer", adata)
    whole = time.process_time() - before
    memory = peak_mb()
    # Its last step once more, to know its share.
    before = time.process_time()
    with (folder / "again.pkl").open("wb") as file:
        pickle.dump(data.dataset_processed, file)
    pickling = time.process_time() - before
    (folder / "again.pkl").unlink()
    top = {name: np.asarray(genes).tolist() for name, genes in data.adata.uns[TOP].items()}
    return {"cpu": whole - pickling, "cpu_with_pickle": whole, "peak_mb": memory, "top": top}


TOP = "top_non_dropout_de_20"
NUM_BATCHES = 30


def start(folder: Path) -> dict:
    data = PertData(folder, default_pert_graph=False)
    data.load(data_path=str(folder / "peer"))
    data.prepare_split(split="simulation", seed=1)
    data.get_dataloader(64)
    batch = next(iter(data.dataloader["train_loader"]))
    assert len(batch.pert) == 64
    return {"cpu": time.process_time(), "peak_mb": peak_mb()}


def batches(folder: Path) -> dict:
    data = PertData(folder, default_pert_graph=False)
    data.load(data_path=str(folder / "peer"))
    data.prepare_split(split="simulation", seed=1)
    data.get_dataloader(64)
    for step, batch in enumerate(data.dataloader["train_loader"]):
        if step == 2:
            before = time.process_time()
        # What scGPT's loop then takes of it.
        genes = torch.randperm(data.adata.n_vars)[:1536]
        control, perturbed = batch.x[:, 0].view(64, -1)[:, genes], batch.y[:, genes]
        assert control.shape == perturbed.shape == (64, 1536)
        if step == NUM_BATCHES + 1:
            break
    ms = (time.process_time() - before) / NUM_BATCHES * 1000
    cells = [cell for its in data.dataset_processed.values() for cell in its]
    size = sum(its.numel() * its.element_size() for cell in cells for its in (cell.x, cell.y))
    sums = {
        name: float(sum(cell.y.double().sum() for cell in its))
        for name, its in data.dataset_processed.items()
        if name != "ctrl"
    }
    return {"ms": ms, "kb_per_cell": size / len(cells) / 1000, "sums": sums}


TASKS = {"process": process, "start": start, "batches": batches}

if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    os.chdir(folder)
    sys.stdout, out = sys.stderr, sys.stdout
    print(json.dumps(TASKS[task](folder) | {"version": version("cell-gears")}), file=out)
