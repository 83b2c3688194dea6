"""Which genes vary most within groups of training cells: the passes that highly_variable needs."""

# K groups, G genes

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.config.fitting import Filters, Fit
from vcpipe.data.cell_sets import TRAIN, label_codes
from vcpipe.data.highly_variable import (
    VALUES_OF,
    clip_limits,
    expected_deviation,
    rank_by_dispersion,
    rank_by_variance,
)
from vcpipe.data.training_cells import CellsToFit, TrainingChunk, training_chunks
from vcpipe.data.variance_sums import (
    VarianceSums,
    add_to_clipped,
    add_to_variances,
    all_groups,
    empty_clipped_sums,
    empty_variance_sums,
    mean_and_variance,
    part_of,
)
from vcpipe.errors import InputError, listed
from vcpipe.files import existing

# Sums of all groups in memory; beyond it, groups are too many to compare genes within them.
LARGEST_SUMS = 4e9
# Of each group and gene: 32 are the sums, the rest is held while genes are ranked by them. Measured
# with 300 groups of 20,000 genes: 168 for seurat_v3, 159 for the others.
BYTES_EACH = 170


@dataclass(frozen=True)
class VariableGenes:
    """The groups of training cells, and the sums of each; adding chunks fills it in place."""

    groups: list[str]
    group_of: list[np.ndarray]  # by source: the group of every cell, -1 outside train
    sums: VarianceSums

    def add(self, chunk: TrainingChunk, place: np.ndarray) -> None:
        """`place` is where the sums of each column's gene are, or -1."""
        group = group_of_rows(self.group_of, chunk)
        add_to_variances(self.sums, chunk.counts["rna"], chunk.totals["rna"], place, group)


def group_of_rows(group_of: Sequence[np.ndarray], chunk: TrainingChunk) -> np.ndarray:
    return np.where(chunk.reason == 0, group_of[chunk.number][chunk.rows], np.int32(-1))


def empty_variable_genes(
    cells: Sequence[CellsToFit], of: str, num_genes: int, config: Fit
) -> VariableGenes:
    """Groups are labels within a dataset: batch 1 of one and of another are two."""
    of_cells = [
        _labels(one, config.hvg_batch_key) if one.has(of) else (np.full(len(one.sets), -1), [])
        for one in cells
    ]
    groups = sorted({name for _, names in of_cells for name in names})
    needed = len(groups) * num_genes * BYTES_EACH
    if needed > LARGEST_SUMS:
        raise InputError(
            f"hvg_batch_key {config.hvg_batch_key!r} has {len(groups)} groups; sums of {num_genes} "
            f"genes in each take {needed / 1e9:.0f} GB, more than {LARGEST_SUMS / 1e9:.0f}. Take "
            "a label with fewer groups (donor, cell_type), or null for all cells together."
        )
    place = {name: number for number, name in enumerate(groups)}
    group_of = [
        np.array([*(place[name] for name in names), -1], dtype=np.int32)[codes]
        for codes, names in of_cells
    ]
    target_sum = config.target_sum if config.normalize else None
    values = VALUES_OF[config.hvg_flavor]
    return VariableGenes(
        groups, group_of, empty_variance_sums(values, target_sum, len(groups), num_genes)
    )


def _labels(one: CellsToFit, key: str | None) -> tuple[np.ndarray, list[str]]:
    """A number for every cell, -1 outside train, and the groups of these numbers."""
    is_train = one.sets == TRAIN
    if key is None:
        return np.where(is_train, 0, -1), ["all cells"]
    codes, names = label_codes(one.source, key, "hvg_batch_key", is_train)
    present, numbers = np.unique(codes[is_train], return_inverse=True)
    groups = np.full(len(codes), -1)
    groups[is_train] = numbers
    return groups, [f"{one.source.dataset}: {key} {names[code]}" for code in present]


def rank_genes(
    variable: VariableGenes,
    cells: Sequence[CellsToFit],
    of: str,
    ids: np.ndarray,
    place_of: np.ndarray,
    config: Fit,
    filters: Filters,
) -> pd.DataFrame:
    """Rank and statistics of the genes `ids`; seurat_v3 reads the training cells again.

    `place_of` is where the sums of each gene of the vocabulary are, or -1.
    """
    if config.num_hvgs() > len(ids):
        raise InputError(
            f"hvg_selection is {config.num_hvgs()}, but {len(ids)} genes of {of} are measured "
            "and kept (min_cells, min_gene_counts); lower it."
        )
    # Filters may have emptied a group.
    present = np.flatnonzero(variable.sums.num_cells_K)
    sums = part_of(variable.sums, present, place_of[ids])
    mean_KG, variance_KG = mean_and_variance(sums)
    if config.hvg_flavor == "seurat_v3":
        names = [variable.groups[group] for group in present]
        deviation_KG = expected_deviation(mean_KG, variance_KG, names)
        clipped = empty_clipped_sums(clip_limits(mean_KG, deviation_KG, sums.num_cells_K))
        row_of = np.full(len(variable.groups) + 1, -1, dtype=np.int32)
        row_of[present] = np.arange(len(present))
        column_of = np.full(len(place_of), -1, dtype=np.int32)
        column_of[ids] = np.arange(len(ids))
        for chunk in training_chunks(cells, filters, of):
            place = places(column_of, chunk.feature_ids["rna"])
            group = row_of[group_of_rows(variable.group_of, chunk)]
            add_to_clipped(clipped, chunk.counts["rna"], place, group)
        table = rank_by_variance(
            mean_KG, deviation_KG, sums.num_cells_K, clipped, config.num_hvgs()
        )
    else:
        grouped = config.hvg_batch_key is not None
        table = rank_by_dispersion(
            config.hvg_flavor, mean_KG, variance_KG, grouped, config.num_hvgs()
        )
    mean_1G, variance_1G = mean_and_variance(all_groups(sums))
    table.insert(0, "mean", mean_1G[0])
    table.insert(1, "variance", variance_1G[0])
    return table.set_index(ids)


def places(place_of: np.ndarray, feature_ids: np.ndarray) -> np.ndarray:
    """Where something of each column's feature is held, -1 for features without an id."""
    return np.append(place_of, np.int32(-1))[feature_ids]


def given_genes(path: Path, names: pd.Series, of: str, ids: np.ndarray) -> pd.DataFrame:
    """Ranks of a user's genes, in the order of the file, whose first column names them.

    EpiFoundation's hvg.csv; `ids` are the genes that are measured and kept.
    """
    existing(path, "a CSV whose first column names genes")
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    genes = table.iloc[:, 0].tolist()
    id_of = {names[number]: number for number in ids.tolist()}
    unknown = [gene for gene in genes if gene not in id_of]
    twice = sorted({gene for gene in genes if genes.count(gene) > 1})
    if unknown or twice or not genes:
        wrong = f"{len(unknown)} of {len(genes)} genes are not measured and kept in {of}: "
        wrong += listed(unknown)
        if not unknown:
            wrong = f"{listed(twice)} stand twice" if twice else "it names no gene"
        raise InputError(
            f"{path}: {wrong}. Expected a header, and the symbols of the vocabulary in the first "
            "column; correct the file (fit.hvg_selection), or give a number of genes."
        )
    ranks = np.arange(1, len(genes) + 1)
    rows = pd.Index([id_of[gene] for gene in genes])
    return pd.DataFrame({"rank": ranks, "highly_variable": True}, index=rows)
