"""The graphs that cell-gears 0.1.2 makes itself, as JSON: run by its own Python, never by ours.

python tests/upstream/graph_gears.py FOLDER: gene2go_all.pkl and tiny/perturb_processed.h5ad are in
FOLDER. Controls it draws at random.
"""

from pathlib import Path

import numpy as np
from gears import PertData
from offline import answer


def graphs(folder: Path) -> dict[str, list[dict]]:
    data = PertData(str(folder), default_pert_graph=False)
    data.load(data_path=str(folder / "tiny"))
    return {
        condition: [described(graph) for graph in made]
        for condition, made in data.dataset_processed.items()
    }


def described(graph) -> dict:
    return {
        "fields": sorted(graph.keys()),
        "types": {name: [str(graph[name].dtype), list(graph[name].shape)] for name in "xy"},
        "control": graph.x[:, 0].tolist(),
        "cell": graph.y[0].tolist(),
        "pert": graph.pert,
        "pert_idx": np.asarray(graph.pert_idx).tolist(),
        "de_idx": np.asarray(graph.de_idx).tolist(),
    }


if __name__ == "__main__":
    answer(graphs)
