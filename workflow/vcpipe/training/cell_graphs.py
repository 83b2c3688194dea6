"""GEARS's data_pyg/cell_graphs.pkl: condition -> one graph a cell, as cell-gears 0.1.2 has it.

The file is a plain pickle of a dictionary, but it is written cell by cell: a pickle of the whole
would first hold every pair of cells as dense tensors, twice.
"""

import io
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import torch

from vcpipe.data.pairing import NOBODY
from vcpipe.data.screen import CONTROL, Screen, perturbed_genes
from vcpipe.files import writing

with warnings.catch_warnings():
    # Importing torch_geometric 2.8 calls torch.jit.script, which torch 2.13 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.data import Data

CELLS_PER_READ = 256
# Protocol 3 has no frames, and a memo with written positions: parts can stand one after another.
PROTOCOL = 3


def write_cell_graphs(path: Path, screen: Screen, paired: np.ndarray) -> dict[str, int]:
    """Write every cell beside its paired control; return the number of graphs of each condition.

    Cells that are paired with nobody, the controls kept for scoring, are left out.
    """
    de_idx = top_de_idx(screen)
    pert_idx = pert_indices(screen)
    written = {}
    with writing(path) as partial, partial.open("wb") as file:
        file.write(pickle.PROTO + bytes([PROTOCOL]) + pickle.EMPTY_DICT)
        for condition in pd.unique(screen.condition).tolist():
            rows = np.flatnonzero((screen.condition == condition) & (paired != NOBODY))
            file.write(_part(condition) + pickle.EMPTY_LIST)
            for x_G, y_G in _pairs(screen, rows, paired[rows]):
                graph = cell_graph(x_G, y_G, condition, pert_idx[condition], de_idx[condition])
                file.write(_part(graph) + pickle.APPEND)
            file.write(pickle.SETITEM)
            written[condition] = len(rows)
        file.write(pickle.STOP)
    return written


def cell_graph(
    x_G: np.ndarray, y_G: np.ndarray, condition: str, pert_idx: list[int], de_idx
) -> Data:
    """One cell as GEARS has it: x [genes, 1] is the control, y [1, genes] the perturbed cell."""
    return Data(
        x=torch.from_numpy(x_G[:, None]),
        pert_idx=pert_idx,
        y=torch.from_numpy(y_G[None, :]),
        de_idx=de_idx,
        pert=condition,
    )


def pert_indices(screen: Screen) -> dict[str, list[int]]:
    """Indices of a condition's genes among the screen's perturbed genes, sorted; ctrl has [-1].

    cell-gears indexes genes that have a GO term; without that list, which it downloads, these are
    the names that a perturbation graph of this screen needs.
    """
    conditions = np.unique(screen.condition).tolist()
    names = sorted({gene for one in conditions for gene in perturbed_genes(one)})
    index = {gene: number for number, gene in enumerate(names)}
    return {one: [index[gene] for gene in perturbed_genes(one)] or [-1] for one in conditions}


def top_de_idx(screen: Screen) -> dict[str, np.ndarray | list[int]]:
    """Sorted indices of a condition's highest ranked genes; ctrl has -1 as often.

    A condition in several cell types has the ranking of its first cell's, as in cell-gears.
    """
    number = screen.about["settings"]["normalisation"]["num_de_genes"]
    index = {gene: place for place, gene in enumerate(screen.genes)}
    made = {CONTROL: [-1] * number}
    with h5py.File(screen.path) as file:
        names = ad.io.read_elem(file["obs"])["condition_name"].to_numpy(dtype=str)
        for condition in np.unique(screen.condition).tolist():
            if condition != CONTROL:
                name = names[np.argmax(screen.condition == condition)]
                top = file["uns/rank_genes_groups_cov_all"][name].asstr()[:number]
                made[condition] = np.sort([index[gene] for gene in top])
    return made


def _pairs(
    screen: Screen, rows: np.ndarray, controls: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(rows), CELLS_PER_READ):
        part = slice(start, start + CELLS_PER_READ)
        y_CG = screen.values(rows[part]).toarray()
        # A sparse matrix on disk is read fastest when each row is read once, in order.
        distinct, place = np.unique(controls[part], return_inverse=True)
        x_CG = screen.values(distinct).toarray()
        yield from zip(x_CG[place], y_CG, strict=True)


def _part(content) -> bytes:
    """A pickle without its head and end, to stand inside another; it shares nothing with others."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, PROTOCOL)
    # A tensor pickles itself as a zip archive; from its array it is smaller, and twice as fast.
    pickler.dispatch_table = {torch.Tensor: lambda tensor: (torch.from_numpy, (tensor.numpy(),))}
    pickler.dump(content)
    return buffer.getvalue()[2:-1]
