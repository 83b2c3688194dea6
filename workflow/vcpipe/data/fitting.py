"""What preprocessing learns from training cells: kept features, typical values, variable genes.

One pass over the cells, and another for seurat_v3, which cuts off counts at limits that the first
has found. Only whole numbers are added up, so nothing depends on the order of cells or files.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.config.fitting import Filters, Fit
from vcpipe.data.cell_filters import REASONS
from vcpipe.data.feature_sums import (
    FeatureSums,
    add_features,
    empty_feature_sums,
    reasons_to_drop,
)
from vcpipe.data.preprocessing_record import PreprocessingRecord, as_bits, digests_of, rounded
from vcpipe.data.training_cells import CellsToFit, refuse_no_cell, training_chunks
from vcpipe.data.value_histogram import NUM_BINS, add_values, empty_histograms, medians, quantiles
from vcpipe.data.variable_genes import (
    VariableGenes,
    empty_variable_genes,
    given_genes,
    places,
    rank_genes,
)
from vcpipe.errors import InputError


@dataclass(frozen=True)
class GeneSums:
    place_of: np.ndarray  # by gene id: its row in the histograms; -1 where no source measures it
    histograms: np.ndarray
    variable: VariableGenes | None


@dataclass(frozen=True)
class Sums:
    """All that the first pass adds up, by axis: peaks, and genes of each species."""

    num_by_reason: np.ndarray  # training cells, by the reason to leave them out
    features: dict[str, FeatureSums]
    genes: dict[str, GeneSums]


@dataclass(frozen=True)
class Fitted:
    record: PreprocessingRecord
    statistics: dict[str, pd.DataFrame]  # by axis: a row for each name of the vocabulary


def fit(
    cells: Sequence[CellsToFit],
    names: Mapping[str, Sequence[str]],
    special_tokens: Collection[str],
    vocabulary_digest: str,
    config: Fit,
    filters: Filters,
    about: Mapping | None = None,
) -> Fitted:
    """Fit on training cells only; `names` are the vocabularies', by axis, in the order of ids.

    `about` is what else the record's settings shall say: how the cells' sets were drawn.
    """
    sums = _add_up(cells, names, config, filters)
    refuse_no_cell(sums.num_by_reason, filters)
    drops, statistics, hvgs = {}, {}, {}
    for of, its in sums.features.items():
        is_feature = ~np.isin(np.asarray(names[of], dtype=object), list(special_tokens))
        drops[of] = reasons_to_drop(of, its, is_feature, config)
        statistics[of] = pd.DataFrame(
            {
                "name": np.asarray(names[of], dtype=object),
                "cells": its.num_cells,
                "counts": its.counts,
                "kept": ~np.logical_or.reduce(list(drops[of].values())),
            }
        )
        if of not in sums.genes:
            continue
        genes = sums.genes[of]
        statistics[of]["median"] = _medians(genes, config)
        if config.hvg_selection is not None:
            ids = np.flatnonzero(is_feature & statistics[of]["kept"] & (genes.place_of >= 0))
            if genes.variable:
                table = rank_genes(genes.variable, cells, of, ids, genes.place_of, config, filters)
            else:
                table = given_genes(Path(config.hvg_file()), statistics[of]["name"], of, ids)
            statistics[of] = statistics[of].join(table)
            is_variable = statistics[of]["highly_variable"].eq(True).to_numpy()
            hvgs[of] = statistics[of][is_variable].sort_values("rank")["name"].tolist()
            if config.hvg_only:
                kept = statistics[of]["kept"].to_numpy()
                drops[of]["hvg_only"] = is_feature & kept & ~is_variable
                statistics[of]["kept"] = is_variable | ~is_feature
    record = PreprocessingRecord(
        settings={
            "fit": config.model_dump(mode="json"),
            "filters": filters.model_dump(mode="json"),
            **(about or {}),
        },
        vocabulary_digest=vocabulary_digest,
        num_features={of: len(its) for of, its in statistics.items()},
        kept={of: as_bits(its["kept"].to_numpy(dtype=bool)) for of, its in statistics.items()},
        dropped={
            "cells": dict(zip(REASONS[1:], sums.num_by_reason[1:].tolist(), strict=True)),
            **{
                of: {reason: int(mask.sum()) for reason, mask in its.items()}
                for of, its in drops.items()
            },
        },
        num_cells=int(sums.num_by_reason[0]),
        hvgs=hvgs,
        medians={of: rounded(statistics[of]["median"]) for of in sums.genes},
        bin_edges=rounded(_bin_edges(sums.genes, statistics, config)),
        sources=digests_of([(one.source.dataset, one.source.data_digest) for one in cells]),
        files=sorted({file for one in cells for file in one.source.file_digests}),
    )
    return Fitted(record, statistics)


def _add_up(
    cells: Sequence[CellsToFit], names: Mapping[str, Sequence[str]], config: Fit, filters: Filters
) -> Sums:
    present = sorted({one.axis(modality) for one in cells for modality in one.feature_ids})
    sums = Sums(
        np.zeros(len(REASONS), dtype=np.int64),
        {of: empty_feature_sums(len(names[of])) for of in present},
        {of: _empty_gene_sums(cells, of, len(names[of]), config) for of in present if of != "atac"},
    )
    for chunk in training_chunks(cells, filters):
        sums.num_by_reason[:] += np.bincount(chunk.reason, minlength=len(REASONS))
        kept = chunk.reason == 0
        for modality, counts in chunk.counts.items():
            of, ids = cells[chunk.number].axis(modality), chunk.feature_ids[modality]
            add_features(sums.features[of], counts, ids, kept)
            if of in sums.genes:
                genes = sums.genes[of]
                place, totals = places(genes.place_of, ids), chunk.totals[modality]
                add_values(genes.histograms, counts, totals, place, kept, _is_share(config))
                if genes.variable:
                    genes.variable.add(chunk, place)
    return sums


def _empty_gene_sums(cells: Sequence[CellsToFit], of: str, num_genes: int, config: Fit) -> GeneSums:
    """A large vocabulary costs no memory for genes that no source measures."""
    is_measured = np.zeros(num_genes, dtype=bool)
    for one in cells:
        if one.has(of):
            ids = one.feature_ids["rna"]
            is_measured[ids[ids >= 0]] = True
    place_of = np.where(is_measured, np.cumsum(is_measured) - 1, -1).astype(np.int32)
    num_measured = int(is_measured.sum())
    variable = empty_variable_genes(cells, of, num_measured, config) if config.num_hvgs() else None
    return GeneSums(place_of, empty_histograms(num_measured), variable)


def _is_share(config: Fit) -> bool:
    """Histograms hold shares of a cell's counts where cells are scaled to the same sum."""
    return config.normalize is not None


def _scale(config: Fit) -> float:
    return config.target_sum if _is_share(config) else 1.0


def _medians(genes: GeneSums, config: Fit) -> np.ndarray:
    """Of the non-zero values of each gene, as Geneformer has them: normalised, not logged."""
    found = np.full(len(genes.place_of), np.nan)
    found[genes.place_of >= 0] = medians(genes.histograms, _is_share(config)) * _scale(config)
    return found


def _bin_edges(
    genes: Mapping[str, GeneSums], statistics: Mapping[str, pd.DataFrame], config: Fit
) -> np.ndarray:
    """Quantiles of all non-zero values of the kept genes, normalised and logged as set."""
    if not genes:
        return np.zeros(0)
    histogram = np.zeros(NUM_BINS, dtype=np.int64)
    for of, its in genes.items():
        for row in its.place_of[statistics[of]["kept"].to_numpy() & (its.place_of >= 0)]:
            histogram += its.histograms[row]
    if not histogram.any():
        raise InputError(
            "No gene is left that a training cell has, and global bins have no values. Lower "
            "min_cells and min_gene_counts."
        )
    at = np.linspace(0, 1, config.num_bin_edges)
    edges = quantiles(histogram, at, _is_share(config)) * _scale(config)
    return np.log1p(edges) if config.log1p else edges
