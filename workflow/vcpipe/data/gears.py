"""GEARS's perturb_processed.h5ad, written from raw counts in one pass with bounded memory.

The layout is that of cell-gears 0.1.2: obs condition, cell_type, dose_val, control and
condition_name, var gene_name, X = log1p of normalised counts, and five dictionaries in uns.
"""

import hashlib
import json
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
from vcpipe.data.gears_rankings import Groups, groups_of, write_rankings
from vcpipe.data.group_sums import GroupSums, add_cells, empty_sums
from vcpipe.data.hdf5 import GrowingArray, writing_hdf5
from vcpipe.data.screen import CONTROL
from vcpipe.data.sparse_rows import log_rows
from vcpipe.errors import InputError


def convert(
    cells: Path, name: str, config: Conversion, out: Path, chunk: int | None = None
) -> dict:
    """Convert a dataset's raw counts; return what uns['vcpipe'] says of it."""
    if out.resolve() == cells.resolve():
        raise InputError(f"--out is the input {cells}; expected another file, raw counts are kept.")
    dataset, normalisation = config.dataset, config.normalisation
    counts = open_counts(cells, name, dataset.gene_name_key, dataset.counts_layer)
    labels = read_labels(counts, name, dataset)
    obs, replaced_obs = converted_obs(counts, labels)
    var, replaced_var = converted_var(counts)
    groups = groups_of(obs)
    with writing_hdf5(out, expected_size(counts, labels, len(groups.names))) as file:
        _write_skeleton(file, obs, var)
        sums, data_digest = _write_values(
            file, counts, labels, groups, normalisation.target_sum, chunk
        )
        write_rankings(file["uns"], sums, groups, counts.genes, normalisation.num_de_genes)
        about = {
            "name": name,
            "data_digest": data_digest,
            # With the columns and labels that were found.
            "settings": Conversion(dataset=labels.columns, normalisation=normalisation).model_dump(
                mode="json"
            ),
            "num_cells": len(obs),
            "num_control_cells": int(obs["control"].sum()),
            "num_genes": len(var),
            "num_perturbations": int(obs["condition"].nunique()) - 1,
            "replaced_columns": [f"obs.{key}" for key in replaced_obs]
            + [f"var.{key}" for key in replaced_var],
            **changes(labels),
        }
        ad.io.write_elem(file["uns"], "vcpipe", json.dumps(about, sort_keys=True))
    return about


def changes(labels: Labels) -> dict:
    """What became of the dataset's own labels."""
    return {
        "detected": labels.detected,
        "dropped_cells": labels.dropped,
        "dropped_labels": labels.dropped_labels,
        "renamed_cell_types": labels.renamed_cell_types,
        "unknown_targets": labels.unknown_targets,
    }


def expected_size(counts: Counts, labels: Labels, num_groups: int) -> int:
    """Bytes of the converted file, about; a dense matrix is judged by its first cells."""
    entries = counts.num_entries
    if entries is None:
        rows, block = next(counts.chunks())
        entries = block.nnz / len(rows) * len(counts.cells)
    # A column, a value and a count of each entry; a name and two indices of each ranked gene.
    names = len(counts.genes) * (8 + 8 + np.strings.str_len(counts.genes).mean())
    return int(12 * entries * labels.kept.mean() + num_groups * names)


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


def log_normalised(counts: sp.csr_matrix, target_sum: float) -> sp.csr_matrix:
    """log1p of counts scaled to target_sum a cell, in float64, kept as float32."""
    values = np.empty(len(counts.data), dtype=np.float32)
    log_rows(counts.indptr, counts.data, target_sum, values)
    return sp.csr_matrix((values, counts.indices, counts.indptr), counts.shape)


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
    done = 0
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
