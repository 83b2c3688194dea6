"""What preprocessing learns from training cells: kept features, typical values, variable genes.

One pass over the cells, and another for seurat_v3, which cuts off counts at limits that the first
has found. Only whole numbers are added up, so nothing depends on the order of cells or files.
"""

# G genes of the vocabulary, N bins

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcpipe.config.fitting import Filters, Fit
from vcpipe.data.cell_filters import REASONS, row_sums
from vcpipe.data.feature_sums import (
    FeatureSums,
    add_features,
    empty_feature_sums,
    reasons_to_drop,
)
from vcpipe.data.preprocessing_record import PreprocessingRecord, as_bits, digests_of, rounded
from vcpipe.data.training_cells import CellsToFit, refuse_no_cell, training_chunks
from vcpipe.data.value_histogram import add_values, empty_histograms, medians, quantiles
from vcpipe.data.variable_genes import (
    VariableGenes,
    empty_variable_genes,
    places,
    rank_genes,
)
from vcpipe.errors import InputError


@dataclass(frozen=True)
class Sums:
    """All that the first pass adds up."""

    num_by_reason: np.ndarray  # training cells, by the reason to leave them out
    features: dict[str, FeatureSums]  # by modality
    place_of: np.ndarray  # by gene id: its row in the histograms; -1 where no source measures it
    histograms: np.ndarray
    variable: VariableGenes | None


@dataclass(frozen=True)
class Fitted:
    record: PreprocessingRecord
    statistics: dict[str, pd.DataFrame]  # by modality: a row for each feature of the vocabulary


def fit(
    cells: Sequence[CellsToFit],
    names: Mapping[str, Sequence[str]],
    vocabulary_digest: str,
    config: Fit,
    filters: Filters,
) -> Fitted:
    """Fit on training cells only; `names` are the vocabulary's, by modality, in order of ids."""
    sums = _add_up(cells, names, config, filters)
    refuse_no_cell(sums.num_by_reason, filters)
    drops = {name: reasons_to_drop(name, its, config) for name, its in sums.features.items()}
    statistics = {
        name: pd.DataFrame(
            {
                "name": np.asarray(names[name], dtype=object),
                "cells": its.num_cells,
                "counts": its.counts,
                "kept": ~np.logical_or.reduce(list(drops[name].values())),
            }
        )
        for name, its in sums.features.items()
    }
    hvgs, median_G, edges = [], np.zeros(0), np.zeros(0)
    if "rna" in names:
        genes = statistics["rna"]
        if sums.variable:
            ids = np.flatnonzero(genes["kept"] & (sums.place_of >= 0))
            table = rank_genes(sums.variable, cells, ids, sums.place_of, config, filters)
            genes = genes.join(table)
            hvgs = genes[genes["rank"] <= config.hvg_selection].sort_values("rank")["name"].tolist()
            if config.hvg_only:
                is_variable = (genes["rank"] <= config.hvg_selection).to_numpy()
                drops["rna"]["hvg_only"] = genes["kept"].to_numpy() & ~is_variable
                genes["kept"] = is_variable
        median_G = _medians(sums, config)
        edges = _bin_edges(sums, genes["kept"].to_numpy(), config)
        statistics["rna"] = genes.assign(median=median_G)
    record = PreprocessingRecord(
        settings={"fit": config.model_dump(mode="json"), "filters": filters.model_dump()},
        vocabulary_digest=vocabulary_digest,
        num_features={name: len(its) for name, its in statistics.items()},
        kept={name: as_bits(its["kept"].to_numpy()) for name, its in statistics.items()},
        dropped={
            "cells": dict(zip(REASONS[1:], sums.num_by_reason[1:].tolist(), strict=True)),
            **{
                name: {reason: int(mask.sum()) for reason, mask in its.items()}
                for name, its in drops.items()
            },
        },
        num_cells=int(sums.num_by_reason[0]),
        hvgs=hvgs,
        medians=rounded(median_G),
        bin_edges=rounded(edges),
        sources=digests_of([(one.source.dataset, one.source.data_digest) for one in cells]),
    )
    return Fitted(record, statistics)


def _add_up(
    cells: Sequence[CellsToFit], names: Mapping[str, Sequence[str]], config: Fit, filters: Filters
) -> Sums:
    place_of = _places_of_measured(cells, len(names.get("rna", ())))
    num_genes = int(place_of.max(initial=-1)) + 1
    sums = Sums(
        np.zeros(len(REASONS), dtype=np.int64),
        {name: empty_feature_sums(len(its)) for name, its in names.items()},
        place_of,
        empty_histograms(num_genes),
        empty_variable_genes(cells, num_genes, config) if config.hvg_selection else None,
    )
    for chunk in training_chunks(cells, filters):
        sums.num_by_reason[:] += np.bincount(chunk.reason, minlength=len(REASONS))
        kept = chunk.reason == 0
        for name, counts in chunk.counts.items():
            add_features(sums.features[name], counts, chunk.feature_ids[name], kept)
        if "rna" in chunk.counts:
            counts, place = chunk.counts["rna"], places(place_of, chunk.feature_ids["rna"])
            _, _, totals = row_sums(counts, place)
            add_values(sums.histograms, counts, totals, place, kept, _is_share(config))
            if sums.variable:
                sums.variable.add(chunk, totals, place)
    return sums


def _places_of_measured(cells: Sequence[CellsToFit], num_genes: int) -> np.ndarray:
    """A large vocabulary costs no memory for genes that no source measures."""
    is_measured = np.zeros(num_genes, dtype=bool)
    for one in cells:
        if "rna" in one.feature_ids:
            ids = one.feature_ids["rna"]
            is_measured[ids[ids >= 0]] = True
    return np.where(is_measured, np.cumsum(is_measured) - 1, -1).astype(np.int32)


def _is_share(config: Fit) -> bool:
    """Histograms hold shares of a cell's counts where cells are scaled to the same sum."""
    return config.normalize is not None


def _medians(sums: Sums, config: Fit) -> np.ndarray:
    """Of the non-zero values of each gene, as Geneformer has them: normalised, not logged."""
    median_G = np.full(len(sums.place_of), np.nan)
    scale = config.target_sum if _is_share(config) else 1.0
    median_G[sums.place_of >= 0] = medians(sums.histograms, _is_share(config)) * scale
    return median_G


def _bin_edges(sums: Sums, is_kept: np.ndarray, config: Fit) -> np.ndarray:
    """Quantiles of all non-zero values of the kept genes, normalised and logged as set."""
    rows = sums.place_of[is_kept & (sums.place_of >= 0)]
    histogram = np.zeros(sums.histograms.shape[1], dtype=np.int64)
    for row in rows:
        histogram += sums.histograms[row]
    if not histogram.any():
        if not len(sums.histograms):
            return np.zeros(0)  # cells of peaks alone
        raise InputError(
            "No gene is left that a training cell has; global bins have no values. Lower "
            "min_cells and min_gene_counts."
        )
    at = np.linspace(0, 1, config.num_bin_edges)
    scale = config.target_sum if _is_share(config) else 1.0
    edges = quantiles(histogram, at, _is_share(config)) * scale
    return np.log1p(edges) if config.log1p else edges
