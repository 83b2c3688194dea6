"""The mean of what several models predict, cell by cell."""

# C cells of a chunk, G genes

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from vcpipe.config.eval import Prediction
from vcpipe.data.count_sampling import draw_counts
from vcpipe.data.model_cells import generator_for
from vcpipe.data.predicted_cells import VALUES_AT_ONCE, PredictedCells
from vcpipe.data.predictions import Predictions, open_predictions, write_predictions
from vcpipe.errors import InputError
from vcpipe.files import digest, existing

# What models must share for a mean of theirs to be scored as one of them.
SHARED = ("kind", "dataset", "split", "data_digest", "target_sum", "split_digest")


def average_predictions(paths: list[Path], name: str, config: Prediction, out: Path) -> None:
    """Write the mean of some files of predicted cells; a few cells of each are held at a time."""
    first = existing(paths[0], "predicted cells as predict_perturbations writes them")
    with h5py.File(first) as file:
        genes = ad.io.read_elem(file["var"]).index.to_numpy(dtype=str)
        conditions = ad.io.read_elem(file["obs"])["condition"].to_numpy(dtype=str)
    members = [open_predictions(path, genes, sorted(set(conditions))) for path in paths]
    _check_alike(members)
    about = {key: members[0].about[key] for key in SHARED if key in members[0].about}
    about |= {
        "model": name,
        "config_digest": digest([its.about["config_digest"] for its in members]),
        "notes": [
            f"the mean of {', '.join(its.about['model'] for its in members)}",
            *members[0].about["notes"],
        ],
    }
    write_predictions(out, _means(members, config), genes, about)


def _check_alike(members: list[Predictions]) -> None:
    first = members[0]
    for other in members[1:]:
        differing = [key for key in SHARED if first.about.get(key) != other.about.get(key)]
        if differing:
            raise InputError(
                f"{other.path} has {differing[0]} {other.about.get(differing[0])!r}, but "
                f"{first.path} has {first.about.get(differing[0])!r}; expected predictions of the "
                "same cells. Predict again with the older model."
            )
        if not np.array_equal(first.condition, other.condition):
            raise InputError(
                f"{other.path} and {first.path} hold other numbers of cells, or perturbations in "
                "another order; expected the same. Predict again with one eval.prediction."
            )


def _means(members: list[Predictions], config: Prediction) -> Iterator[PredictedCells]:
    """Means of cells that follow each other in the files and have one condition."""
    condition_C = members[0].condition
    num_counts_C = library_sizes(members[0].path) if config.counts else None
    # Of the name alone: a condition may be met in several chunks, each with draws of its own.
    counting = {one: generator_for(f"counts of {one}", config.seed) for one in set(condition_C)}
    for parts in zip(*(its.chunks() for its in members), strict=True):
        rows = parts[0][0]
        mean_CG = np.mean([values for _, values in parts], axis=0, dtype=np.float64)
        codes, names = pd.factorize(condition_C[rows])
        bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1), len(codes)]
        for start, end in pairwise(bounds):
            condition, values_CG = names[codes[start]], mean_CG[start:end].astype(np.float32)
            counts_CG = None
            if num_counts_C is not None:
                its = num_counts_C[rows][start:end]
                # Of any sampling: Poisson counts of a known sum are multinomial.
                counts_CG = draw_counts(
                    values_CG, its, "multinomial", counting[condition], condition
                )
            yield PredictedCells(condition, values_CG, counts_CG)


def library_sizes(path: Path) -> np.ndarray:
    """Counts of each predicted cell."""
    with h5py.File(path) as file:
        if "layers/counts" not in file:
            raise InputError(
                f"{path} has no layer 'counts', but eval.prediction.counts is true; predict again "
                "with it, or set it to false."
            )
        counts = ad.io.sparse_dataset(file["layers/counts"])
        size = max(1, VALUES_AT_ONCE // counts.shape[1])
        parts = [counts[i : i + size].sum(axis=1) for i in range(0, counts.shape[0], size)]
    return np.asarray(np.concatenate(parts)).ravel().astype(np.int64)
