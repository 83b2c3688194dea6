"""What cell-gears 0.1.2 makes of our folder, as JSON: run by its own Python, never by ours.

python tests/upstream/train_gears.py FOLDER: gene2go_all.pkl, data/ and tiny/ are in FOLDER.
"""

import os
from pathlib import Path

import numpy as np
from gears import GEARS, PertData
from gears.inference import compute_metrics, evaluate
from offline import answer, name_of_cell
from rank_gears import dictionaries


def main(folder: Path) -> dict:
    # GEARS writes its graph of GO terms into ./data, whatever its data_path.
    os.chdir(folder)
    return dictionaries(folder / "tiny/perturb_processed.h5ad") | trained(folder)


def trained(folder: Path) -> dict:
    """Open the folder as GEARS's README does, draw or find its splits, train for one epoch."""
    data = PertData(str(folder), default_pert_graph=False)
    data.load(data_path=str(folder / "tiny"))
    data.prepare_split(split="custom", split_dict_path=str(folder / "custom.pkl"))
    custom = data.set2conditions
    data.prepare_split(split="simulation", seed=2)
    drawn = {"lists": data.set2conditions, "subgroups": data.subgroup}
    data.prepare_split(split="simulation", seed=1)
    data.get_dataloader(batch_size=16)

    model = GEARS(data, device="cpu")
    model.model_initialize(hidden_size=8, decoder_hidden_size=4)
    before = losses(model)
    model.train(epochs=1, lr=1e-2)
    target = data.set2conditions["test"][0].removesuffix("+ctrl")
    return {
        "custom": custom,
        "drawn": drawn,
        "found": {"lists": data.set2conditions, "subgroups": data.subgroup},
        "pert_names": data.pert_names.tolist(),
        "graphs": {name: graphs(data, loader) for name, loader in data.dataloader.items()},
        "mse_before": before,
        "mse_after": losses(model),
        "predicted": model.predict([[target]])[target].tolist(),
    }


def graphs(data: PertData, loader) -> dict:
    """One batch's shapes; the names of the two cells that each graph holds, and its indices."""
    name_of = name_of_cell(data)
    batch = next(iter(loader))
    return {
        "num_graphs": batch.num_graphs,
        "x": list(batch.x.shape),
        "y": list(batch.y.shape),
        "cells": [
            {
                "control": name_of[graph.x.numpy()[:, 0].tobytes()],
                "cell": name_of[graph.y.numpy()[0].tobytes()],
                "pert": graph.pert,
                "pert_idx": graph.pert_idx,
                "de_idx": np.asarray(graph.de_idx).tolist(),
            }
            for graph in loader.dataset
        ],
    }


def losses(model: GEARS) -> dict:
    return {
        name: float(compute_metrics(evaluate(loader, model.model, False, "cpu"))[0]["mse"])
        for name, loader in model.dataloader.items()
    }


if __name__ == "__main__":
    answer(main)
