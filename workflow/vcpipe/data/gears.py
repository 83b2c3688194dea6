"""GEARS's perturb_processed.h5ad, written from raw counts in one pass with bounded memory.

The layout is that of cell-gears 0.1.2: obs condition, cell_type, dose_val, control and
condition_name, var gene_name, X = log1p of normalised counts, and five dictionaries in uns.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import xxhash

from vcpipe.config.gears import Conversion
from vcpipe.data.conditions import Labels, read_labels
from vcpipe.data.counts import Counts, open_counts
from vcpipe.data.group_sums import GroupSums, add_cells, empty_sums, ranking, welch_t_KG
from vcpipe.data.hdf5 import GrowingArray, writing_hdf5
from vcpipe.data.screen import CONTROL
from vcpipe.data.sparse_rows import log_rows
from vcpipe.errors import InputError
from vcpipe.files import let_go

# Entries between two times that written values are given to the disk for good: 192 MiB of three
# arrays.
ENTRIES_IN_MEMORY = 2**24


def convert(
    cells: Path, name: str, config: Conversion, out: Path, chunk: int | None = None
) -> dict:
    """Convert a dataset's raw counts; return what uns['vcpipe'] says of it."""
    if out.resolve() == cells.resolve():
        raise InputError(f"--out is the input {cells}; expected another file, raw counts are kept.")
    dataset = config.dataset
    counts = open_counts(cells, name, dataset.gene_name_key, dataset.counts_layer)
    labels = read_labels(counts, name, dataset)
    # From here on with the keys that were found.
    config = config.model_copy(update={"dataset": labels.columns})
    obs, replaced_obs = converted_obs(counts, labels)
    var, replaced_var = converted_var(counts)
    groups = groups_of(obs)
    needed = expected_size(counts, labels, len(groups.names))
    with writing_hdf5(out, needed) as file:
        _write_skeleton(file, obs, var)
        sums, data_digest = _write_values(
            file, counts, labels, groups, config.normalisation.target_sum, chunk
        )
        about = {
            "name": name,
            "data_digest": data_digest,
            "settings": config.model_dump(mode="json"),
            "num_cells": len(obs),
            "num_control_cells": int(obs["control"].sum()),
            "num_genes": len(var),
            "num_perturbations": int(obs["condition"].nunique()) - 1,
            "detected": labels.detected,
            "dropped_cells": labels.dropped,
            "dropped_labels": labels.dropped_labels,
            "renamed_cell_types": labels.renamed_cell_types,
            "unknown_targets": labels.unknown_targets,
            "replaced_columns": [f"obs.{key}" for key in replaced_obs]
            + [f"var.{key}" for key in replaced_var],
        }
        rankings = gears_rankings(
            sums, groups, encoded(counts.genes), config.normalisation.num_de_genes
        )
        for key, content in rankings.items():
            _write_by_name(file["uns"], key, content)
        ad.io.write_elem(file["uns"], "vcpipe", json.dumps(about, sort_keys=True))
    return about


def expected_size(counts: Counts, labels: Labels, num_groups: int) -> int | None:
    """Bytes of the converted file; None for a dense matrix, whose zeros are not known yet."""
    if counts.num_entries is None:
        return None
    entries = counts.num_entries * labels.kept.mean()
    # A column, a value and a count of each entry; a name and two indices of each ranked gene.
    names = len(counts.genes) * (8 + 8 + max(map(len, counts.genes)))
    return int(12 * entries + num_groups * names)


def converted_obs(counts: Counts, labels: Labels) -> tuple[pd.DataFrame, list[str]]:
    """The kept cells' own columns and GEARS's, and the names of their own that these replaced."""
    kept = labels.kept
    condition = labels.condition[kept]
    dose = np.where(condition == CONTROL, "1", "1+1")
    made = {
        "condition": condition,
        "cell_type": labels.cell_type[kept],
        "batch": labels.batch[kept],
        "control": (condition == CONTROL).astype(np.int64),
        "dose_val": dose,
        "condition_name": [
            "_".join(parts) for parts in zip(labels.cell_type[kept], condition, dose, strict=True)
        ],
    }
    # batch made from the column batch is the same column; condition made from target_gene is not.
    sources = {
        "condition": labels.columns.perturbation_key,
        "cell_type": labels.columns.cell_type_key,
        "batch": labels.columns.batch_key,
    }
    replaced = [key for key in made if key in counts.obs and sources.get(key) != key]
    own = counts.obs.loc[kept].drop(columns=[key for key in made if key in counts.obs])
    own.index = pd.Index(counts.cells[kept])
    for key, values in made.items():
        own[key] = values if key == "control" else pd.Categorical(values)
    return own, replaced


def converted_var(counts: Counts) -> tuple[pd.DataFrame, list[str]]:
    """Genes by name; where names came from a column, the former index is kept as gene_id."""
    var = counts.var.copy()
    former = var.index.to_numpy(dtype=str)
    made = {"gene_name": counts.genes}
    if (former != counts.genes).any():
        taken = "gene_id" in var and (var["gene_id"].astype(str) != former).any()
        made["former_index" if taken else "gene_id"] = former
    replaced = [key for key in made if key in var and (var[key].astype(str) != made[key]).any()]
    for key, values in made.items():
        var[key] = values
    var.index = pd.Index(counts.genes)
    return var, replaced


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


def gears_rankings(
    sums: GroupSums, groups: Groups, genes: np.ndarray, num_de_genes: int
) -> dict[str, dict[str, np.ndarray]]:
    """The five dictionaries that GEARS keeps in uns, by condition_name, controls left out.

    Ranks compare with the control of the cell type; "non-zero" pools a condition's cell types, as
    cell-gears does. A dropout is a gene that control cells express and the perturbed ones do not.
    """
    detected_KG = sums.nonzero_KG > 0
    in_control_G = detected_KG[groups.condition == CONTROL].any(axis=0)
    t_KG = welch_t_KG(sums, groups.control)
    made = {
        "rank_genes_groups_cov_all": {},
        "non_zeros_gene_idx": {},
        "non_dropout_gene_idx": {},
        "top_non_dropout_de_20": {},
        "top_non_zero_de_20": {},
    }
    for group, name in enumerate(groups.names):
        if groups.condition[group] == CONTROL:
            continue
        order = ranking(t_KG[group])
        nonzero_G = detected_KG[groups.condition == groups.condition[group]].any(axis=0)
        kept_G = nonzero_G | ~in_control_G
        made["rank_genes_groups_cov_all"][name] = genes[order]
        made["non_zeros_gene_idx"][name] = np.flatnonzero(nonzero_G)
        made["non_dropout_gene_idx"][name] = np.flatnonzero(kept_G)
        made["top_non_dropout_de_20"][name] = genes[order[kept_G[order]][:num_de_genes]]
        made["top_non_zero_de_20"][name] = genes[order[nonzero_G[order]][:num_de_genes]]
    return made


def log_normalised(counts: sp.csr_matrix, target_sum: float) -> sp.csr_matrix:
    """log1p of counts scaled to target_sum a cell, in float64, kept as float32."""
    values = np.empty(len(counts.data), dtype=np.float32)
    log_rows(counts.indptr, counts.data, target_sum, values)
    return sp.csr_matrix((values, counts.indices, counts.indptr), counts.shape)


def encoded(names: np.ndarray) -> np.ndarray:
    """Names as bytes of one length. HDF5 takes a second to write a million of any length."""
    made = np.char.encode(names, "utf-8")
    return made.astype(h5py.string_dtype("utf-8", made.dtype.itemsize))


def index_dtype(num_entries: int) -> type:
    """The type of CSR row starts: beyond int32 where there are more entries than it can count."""
    return np.int32 if num_entries <= np.iinfo(np.int32).max else np.int64


def _write_skeleton(file: h5py.File, obs: pd.DataFrame, var: pd.DataFrame) -> None:
    file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for key in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
        ad.io.write_elem(file, key, {})
    # anndata reads pandas's nullable strings but writes them only when told to.
    with ad.settings.override(allow_write_nullable_strings=True):
        ad.io.write_elem(file, "obs", obs)
        ad.io.write_elem(file, "var", var)


def _write_by_name(uns: h5py.Group, key: str, content: dict[str, np.ndarray]) -> None:
    """A dictionary of numbers or encoded names, as anndata lays it out."""
    ad.io.write_elem(uns, key, {})
    for name, values in content.items():
        written = uns[key].create_dataset(name, data=values)
        kind = "string-array" if values.dtype.kind == "S" else "array"
        written.attrs.update({"encoding-type": kind, "encoding-version": "0.2.0"})


def _write_values(
    file: h5py.File,
    counts: Counts,
    labels: Labels,
    groups: Groups,
    target_sum: float,
    chunk: int | None,
) -> tuple[GroupSums, str]:
    """Stream counts into X and layers['counts']; return the groups' sums and the data digest."""
    shape = (len(groups.of_cell), len(counts.genes))
    sums = empty_sums(len(groups.names), len(counts.genes))
    digest = Digest(counts, labels)
    matrix = _sparse_group(file, "X", shape)
    layer = _sparse_group(file, "layers/counts", shape)
    most_entries = int(np.prod(shape))
    indices = GrowingArray(matrix, "indices", np.int32, most_entries)
    values, raw = (
        GrowingArray(group, "data", np.float32, most_entries) for group in (matrix, layer)
    )
    lengths = []
    done = waiting = 0
    for rows, block in counts.chunks(labels.kept, chunk):
        _refuse_empty_cells(block, counts, rows)
        normalised = log_normalised(block, target_sum)
        add_cells(sums, normalised, groups.of_cell[done : done + len(rows)])
        for target, entries in (
            (indices, block.indices),
            (values, normalised.data),
            (raw, block.data),
        ):
            target.append(entries)
        lengths.append(np.diff(block.indptr))
        digest.add(block)
        done += len(rows)
        waiting += block.nnz
        if waiting > ENTRIES_IN_MEMORY:
            let_go(file.id.get_vfd_handle())
            waiting = 0
    for array in (indices, values, raw):
        array.close()
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
    matrix["indptr"] = starts.astype(index_dtype(starts[-1]))
    # Counts and values stand in the same places; two names of one array spare a quarter of the
    # file.
    layer["indices"] = matrix["indices"]
    layer["indptr"] = matrix["indptr"]
    return sums, digest.text()


def _sparse_group(file: h5py.File, name: str, shape: tuple[int, int]) -> h5py.Group:
    group = file.create_group(name)
    group.attrs.update(
        {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array(shape)}
    )
    return group


def _refuse_empty_cells(block: sp.csr_matrix, counts: Counts, rows: np.ndarray) -> None:
    empty = np.flatnonzero(np.diff(block.indptr) == 0)
    if len(empty):
        raise InputError(
            f"{counts.path}: cell '{counts.cells[rows[empty[0]]]}' has no counts, so it has no "
            f"normalised values ({len(empty)} such cells among the {len(rows)} read at once). "
            "Remove empty cells from the file."
        )


class Digest:
    """A hash of names, labels and counts that does not depend on layout or chunk size.

    It tells data apart and guards nothing, so the counts, gigabytes of them, go through a fast one.
    """

    def __init__(self, counts: Counts, labels: Labels):
        self.names = hashlib.sha256("\n".join(counts.genes).encode())
        for column in (counts.cells, labels.condition, labels.cell_type, labels.batch):
            self.names.update(("\n\n" + "\n".join(column[labels.kept])).encode())
        self.parts = [xxhash.xxh3_128() for _ in range(3)]

    def add(self, block: sp.csr_matrix) -> None:
        arrays = (np.diff(block.indptr), block.indices, block.data)
        for part, array, dtype in zip(self.parts, arrays, ("<i4", "<i4", "<f4"), strict=True):
            part.update(np.ascontiguousarray(array, dtype=dtype))

    def text(self) -> str:
        whole = b"".join(part.digest() for part in (self.names, *self.parts))
        return hashlib.sha256(whole).hexdigest()[:16]
