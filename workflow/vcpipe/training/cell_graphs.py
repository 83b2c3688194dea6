"""GEARS's data_pyg/cell_graphs.pkl: condition -> one graph a cell, as cell-gears 0.1.2 or 0.0.2.

The file is a plain pickle of a dictionary, but a pickle of the whole would first hold every pair of
cells as dense tensors, twice. Here the pickle is laid out with holes where the values belong, and
one pass over the cells fills them: every cell is read and made dense once, however many stand
beside it.
"""

import io
import os
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import torch

from vcpipe.config.gears import CellGraphs
from vcpipe.data.conditions import unknown_targets
from vcpipe.data.pairing import NOBODY
from vcpipe.data.screen import CONTROL, Screen, perturbed_genes
from vcpipe.errors import InputError, listed
from vcpipe.files import writing

with warnings.catch_warnings():
    # Importing torch_geometric 2.8 calls torch.jit.script, which torch 2.13 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.data import Data

# C cells, G genes, F columns of x: expression, and in layout 0.0.2 the flags

CELLS_PER_READ = 256
# Protocol 3 has no frames, and a memo with written positions: parts can stand one after another.
PROTOCOL = 3


def write_cell_graphs(
    path: Path,
    screen: Screen,
    paired: np.ndarray,
    config: CellGraphs,
    go_genes: set[str] | None = None,
) -> dict[str, int]:
    """Write every cell beside its paired control; return the number of graphs of each condition.

    A control cell that is paired with nobody is kept for scoring: it is left out, or stands beside
    itself where include_scoring_controls says so.
    """
    assert (screen.condition[paired == NOBODY] == CONTROL).all()
    if config.include_scoring_controls:
        paired = np.where(paired == NOBODY, np.arange(len(paired)), paired)
    flagged = flagged_columns(screen) if config.layout == "0.0.2" else None
    graphs = empty_graphs(screen, flagged, go_genes)
    # float32: the perturbed cell, its control, and in layout 0.0.2 the flags.
    columns = 2 if flagged is None else 3
    needed = int((paired != NOBODY).sum()) * len(screen.genes) * 4 * columns
    with writing(path, needed) as partial, partial.open("wb") as file:
        x_at_C, y_at_C = _write_around_values(file, screen.condition, paired, graphs)
        _write_values(file, screen, paired, x_at_C, y_at_C, flagged)
    return {one: int((paired[screen.condition == one] >= 0).sum()) for one in graphs}


def empty_graphs(
    screen: Screen, flagged: dict[str, list[int]] | None, go_genes: set[str] | None
) -> dict[str, Data]:
    """A graph of each condition, in the order of its first cell, whose values are all -1."""
    pert_idx = pert_indices(screen, go_genes) if flagged is None else None
    de_idx = top_de_idx(screen)
    y_1G = torch.full((1, len(screen.genes)), -1.0)
    x_GF = y_1G.T if flagged is None else y_1G.T.repeat(1, 2)
    return {
        one: Data(
            x=x_GF,
            y=y_1G,
            **({} if pert_idx is None else {"pert_idx": pert_idx[one]}),
            de_idx=de_idx[one],
            pert=one,
        )
        for one in pd.unique(screen.condition).tolist()
    }


def flagged_columns(screen: Screen) -> dict[str, list[int]]:
    """Positions of a condition's genes among the measured ones, where layout 0.0.2 puts a flag."""
    unknown = unknown_targets(screen.condition, screen.genes)
    if unknown:
        raise InputError(
            f"{len(unknown)} perturbed genes of {screen.path} were not measured, and layout 0.0.2 "
            f"flags measured genes only: {listed(unknown)}. Set datasets.<name>.unknown_targets "
            "to drop, or gears.cell_graphs.layout to 0.1.2."
        )
    index = {gene: place for place, gene in enumerate(screen.genes)}
    conditions = np.unique(screen.condition).tolist()
    return {one: [index[gene] for gene in perturbed_genes(one)] for one in conditions}


def pert_indices(screen: Screen, go_genes: set[str] | None = None) -> dict[str, list[int]]:
    """Indices of a condition's genes among the genes that GEARS can perturb; ctrl has [-1].

    These are in cell-gears 0.1.2, without its default graph, the measured or perturbed genes with a
    GO term, sorted; where no GO terms are given, the perturbed genes.
    """
    conditions = np.unique(screen.condition).tolist()
    perturbed = {gene for one in conditions for gene in perturbed_genes(one)}
    known = perturbed if go_genes is None else go_genes & perturbed.union(screen.genes.tolist())
    if perturbed - known:
        raise InputError(
            f"{len(perturbed - known)} perturbed genes of {screen.path} have no entry in "
            f"gears.cell_graphs.gene2go: {listed(sorted(perturbed - known))}. GEARS would leave "
            "their cells out. Add their GO terms, or leave the perturbations out: put their labels "
            "into datasets.<name>.drop_labels."
        )
    index = {gene: number for number, gene in enumerate(sorted(known))}
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


def _write_around_values(
    file: BinaryIO, condition: np.ndarray, paired: np.ndarray, graphs: dict[str, Data]
) -> tuple[np.ndarray, np.ndarray]:
    """Write the pickle but for values; return where each cell's x and y belong, -1 for none."""
    x_at_C, y_at_C = (np.full(len(condition), -1) for _ in range(2))
    file.write(pickle.PROTO + bytes([PROTOCOL]) + pickle.EMPTY_DICT)
    for one, graph in graphs.items():
        x, y = (graph[key].numpy().tobytes() for key in ("x", "y"))
        before_x, _, rest = _part(graph).partition(x)
        before_y, _, after_y = rest.partition(y)
        file.write(_part(one) + pickle.EMPTY_LIST)
        for cell in np.flatnonzero((condition == one) & (paired >= 0)):
            file.write(before_x)
            x_at_C[cell] = file.tell()
            file.seek(len(x), os.SEEK_CUR)
            file.write(before_y)
            y_at_C[cell] = file.tell()
            file.seek(len(y), os.SEEK_CUR)
            file.write(after_y + pickle.APPEND)
        file.write(pickle.SETITEM)
    file.write(pickle.STOP)
    return x_at_C, y_at_C


def _write_values(
    file: BinaryIO,
    screen: Screen,
    paired: np.ndarray,
    x_at_C: np.ndarray,
    y_at_C: np.ndarray,
    flagged: dict[str, list[int]] | None,
) -> None:
    """Write each cell's values into its own graph, and into those it is the control of."""
    for cell, beside, values_G in _cells(screen, paired):
        if y_at_C[cell] >= 0:
            file.seek(y_at_C[cell])
            file.write(values_G)
        for other in beside:
            file.seek(x_at_C[other])
            if flagged is None:
                file.write(values_G)
            else:
                file.write(_with_flags(values_G, flagged[screen.condition[other]]))


def _with_flags(values_G: np.ndarray, columns: list[int]) -> np.ndarray:
    x_G2 = np.zeros((len(values_G), 2), dtype=np.float32)
    x_G2[:, 0] = values_G
    x_G2[columns, 1] = 1
    return x_G2


def _cells(screen: Screen, paired: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Every cell in row order, the cells that it is the control of, and its values."""
    by_control = np.argsort(paired, kind="stable")
    start = np.searchsorted(paired[by_control], np.arange(len(paired) + 1))
    for rows, values in screen.chunks(CELLS_PER_READ):
        for cell, values_G in enumerate(values.toarray(), rows.start):
            yield cell, by_control[start[cell] : start[cell + 1]], values_G


def _part(content) -> bytes:
    """A pickle without its head and end, to stand inside another; it shares nothing with others."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, PROTOCOL)
    # Public names alone, so that other versions of numpy, torch and torch_geometric can read it:
    # numpy 2 pickles arrays by a path that numpy < 1.26 lacks, a tensor is a zip archive in itself.
    pickler.dispatch_table = {
        Data: lambda graph: (Data, (), None, None, iter(graph.to_dict().items())),
        torch.Tensor: lambda tensor: (torch.Tensor, (tensor.numpy(),)),
        np.ndarray: lambda array: (
            np.ndarray,
            (array.shape, array.dtype.str, bytearray(array.tobytes())),
        ),
    }
    pickler.dump(content)
    return buffer.getvalue()[2:-1]
