"""The five dictionaries that GEARS keeps in uns, by condition_name, controls left out.

Ranks compare with the control of the cell type; "non-zero" pools a condition's cell types, as
cell-gears does. A dropout is a gene that control cells express and the perturbed ones do not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from vcpipe.data.group_sums import GroupSums, pair_of, ranking, welch_t_KG
from vcpipe.data.screen import CONTROL

NAMES = ("rank_genes_groups_cov_all", "top_non_dropout_de_20", "top_non_zero_de_20")
INDICES = ("non_zeros_gene_idx", "non_dropout_gene_idx")
# Bytes of the longest name that all names are padded to.
SHORT = 64


@dataclass(frozen=True)
class Groups:
    """Cells of one condition and cell type: what GEARS calls condition_name."""

    names: list[str]  # sorted
    condition: np.ndarray
    of_cell: np.ndarray  # the group of each kept cell
    control: np.ndarray  # the control group of each group's cell type


def groups_of(obs: pd.DataFrame) -> Groups:
    of_cell, first = obs["condition_name"].cat.codes, obs.drop_duplicates("condition_name")
    first = first.set_index("condition_name").sort_index()
    names = list(first.index)
    controls = first["cell_type"].astype(str) + f"_{CONTROL}_1"
    return Groups(
        names=names,
        condition=first["condition"].to_numpy(dtype=str),
        of_cell=of_cell.to_numpy(dtype=np.int64),
        control=np.array([names.index(control) for control in controls]),
    )


def ranked_genes(
    sums: GroupSums, groups: Groups, num_de_genes: int
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The condition_name of each perturbed group, and its five lists as places of genes."""
    detected_KG = sums.nonzero_KG > 0
    in_control_G = detected_KG[groups.condition == CONTROL].any(axis=0)
    for group, name in enumerate(groups.names):
        if groups.condition[group] == CONTROL:
            continue
        pair = pair_of(sums, group, groups.control[group])
        order = ranking(welch_t_KG(pair, np.array([1, 1]))[0])
        nonzero_G = detected_KG[groups.condition == groups.condition[group]].any(axis=0)
        kept_G = nonzero_G | ~in_control_G
        yield (
            name,
            {
                "rank_genes_groups_cov_all": order,
                "non_zeros_gene_idx": np.flatnonzero(nonzero_G),
                "non_dropout_gene_idx": np.flatnonzero(kept_G),
                "top_non_dropout_de_20": order[kept_G[order]][:num_de_genes],
                "top_non_zero_de_20": order[nonzero_G[order]][:num_de_genes],
            },
        )


def write_rankings(
    uns: h5py.Group, sums: GroupSums, groups: Groups, genes: np.ndarray, num_de_genes: int
) -> None:
    """Write the dictionaries as anndata lays them out, a condition at a time."""
    names = encoded(genes)
    for key in (*NAMES, *INDICES):
        ad.io.write_elem(uns, key, {})
    for name, lists in ranked_genes(sums, groups, num_de_genes):
        for key, places in lists.items():
            values, kind = (names[places], "string-array") if key in NAMES else (places, "array")
            written = uns[key].create_dataset(name, data=values)
            written.attrs.update({"encoding-type": kind, "encoding-version": "0.2.0"})


def encoded(names: np.ndarray) -> np.ndarray:
    """Names as bytes of one length: HDF5 takes a second to write a million of any length."""
    made = np.char.encode(names, "utf-8")
    if made.dtype.itemsize > SHORT:
        return names.astype(h5py.string_dtype())
    return made.astype(h5py.string_dtype("utf-8", made.dtype.itemsize))
