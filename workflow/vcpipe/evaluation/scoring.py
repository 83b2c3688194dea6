"""Score predicted cells against the measured ones, one value per perturbation and metric."""

# P perturbations, C cells, G genes

import json
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.config.eval import Scoring
from vcpipe.data.model_cells import SEEN, evaluated_conditions
from vcpipe.data.predictions import Predictions
from vcpipe.data.screen import Screen, check_same_screen, perturbed_genes
from vcpipe.data.splits import SplitTable, check_same_split
from vcpipe.errors import listed
from vcpipe.evaluation.metrics import METRICS, Comparison
from vcpipe.evaluation.profiles import (
    MeasuredProfiles,
    differential_genes,
    measured_profiles,
    target_genes,
)
from vcpipe.files import existing, read_json, write_json, writing


@dataclass(frozen=True)
class Scores:
    """What score_perturbations makes of one model on one split."""

    per_perturbation: pd.DataFrame  # condition, subgroup, num_cells, metric, value
    profiles: ad.AnnData  # layers predicted, measured, scored, de; controls and train mean in var
    about: dict


def score(
    screen: Screen,
    predictions: Predictions,
    split: SplitTable,
    controls: dict[str, str],
    config: Scoring,
) -> Scores:
    """Score every evaluated perturbation of the split; both files are read in chunks."""
    check_same_screen(predictions.path, predictions.about, screen)
    if "split_digest" in predictions.about:
        check_same_split(predictions.path, predictions.about["split_digest"], split, controls)
    evaluated = evaluated_conditions(split)
    measured = measured_profiles(screen, split, controls, list(evaluated))
    predicted_PG = predicted_profiles(predictions, measured.conditions)
    comparison = compare(predicted_PG, measured, config)
    values = {name: METRICS[name].function(comparison) for name in config.metrics}
    table = pd.DataFrame(
        {
            "condition": list(evaluated),
            "subgroup": list(evaluated.values()),
            "num_cells": measured.num_cells_P,
        }
    )
    long = pd.concat(
        [table.assign(metric=name, value=values[name]) for name in config.metrics],
        ignore_index=True,
    )
    about = {
        **{key: predictions.about[key] for key in ("model", "kind", "dataset", "split")},
        "config_digest": predictions.about["config_digest"],
        "data_digest": screen.data_digest,
        "num_perturbations": len(evaluated),
        "scoring": config.model_dump(mode="json"),
        "notes": [
            *predictions.about["notes"],
            *_seen(evaluated),
            *_notes(measured, values),
        ],
    }
    return Scores(long, _profiles(comparison, measured, table), about)


def predicted_profiles(predictions: Predictions, conditions: list[str]) -> np.ndarray:
    """Mean predicted profile of each condition; control cells in the file are passed over."""
    group_C = pd.Index(conditions).get_indexer(predictions.condition)
    sum_PG = np.zeros((len(conditions), len(predictions.columns)))
    for rows, values_CG in predictions.chunks():
        kept = np.flatnonzero(group_C[rows] >= 0)
        member_PC = sp.csr_matrix(
            (np.ones(len(kept)), (group_C[rows][kept], kept)),
            shape=(len(conditions), len(values_CG)),
        )
        sum_PG += member_PC @ values_CG
    return sum_PG / np.bincount(group_C[group_C >= 0])[:, None]


def compare(predicted_PG: np.ndarray, measured: MeasuredProfiles, config: Scoring) -> Comparison:
    """Set predicted beside measured profiles, and decide which genes count."""
    target_PG = target_genes(measured.conditions, measured.genes)
    scored_PG = ~target_PG if config.exclude_target else np.ones_like(target_PG)
    return Comparison(
        predicted_PG=predicted_PG,
        measured_PG=measured.mean_PG,
        model_control_G=measured.model_control_G,
        scoring_control_G=measured.scoring_control_G,
        train_mean_G=measured.train_mean_G,
        scored_PG=scored_PG,
        de_PG=differential_genes(measured.t_PG, scored_PG, config.num_de_genes),
        target_PG=target_PG,
    )


def _seen(evaluated: dict[str, str]) -> list[str]:
    if set(evaluated.values()) != {SEEN}:
        return []
    return ["The split holds nothing out: these perturbations were trained on."]


def _notes(measured: MeasuredProfiles, values: dict[str, np.ndarray]) -> list[str]:
    notes = []
    genes = set(measured.genes)
    unmeasured = [
        name for name in measured.conditions if not genes.issuperset(perturbed_genes(name))
    ]
    if unmeasured:
        notes.append(f"A perturbed gene is not among the measured genes: {listed(unmeasured)}.")
    for name, value_P in values.items():
        if np.isnan(value_P).any():
            count = f"{np.isnan(value_P).sum()} of {len(value_P)}"
            notes.append(f"{name} is undefined for {count} perturbations, which it leaves out.")
    return notes


def _profiles(
    comparison: Comparison, measured: MeasuredProfiles, table: pd.DataFrame
) -> ad.AnnData:
    return ad.AnnData(
        obs=table.set_index("condition").rename_axis(None),
        var=pd.DataFrame(
            {
                "model_control": comparison.model_control_G,
                "scoring_control": comparison.scoring_control_G,
                "train_mean": comparison.train_mean_G,
            },
            index=measured.genes.astype(object),
        ),
        layers={
            "predicted": comparison.predicted_PG.astype(np.float32),
            "measured": comparison.measured_PG.astype(np.float32),
            "scored": comparison.scored_PG,
            "de": comparison.de_PG,
        },
    )


def write_scores(folder: Path, scores: Scores) -> None:
    """Write per_perturbation.csv, profiles.h5ad and about.json: all or none."""
    with writing(folder) as partial:
        partial.mkdir()
        scores.per_perturbation.to_csv(partial / "per_perturbation.csv", index=False)
        profiles = scores.profiles.copy()
        profiles.uns["vcpipe"] = json.dumps(scores.about, sort_keys=True)
        profiles.write_h5ad(partial / "profiles.h5ad")
        write_json(partial / "about.json", scores.about)


def read_scores(folder: Path) -> Scores:
    """Read a folder that write_scores made."""
    folder = Path(folder)
    what = "a folder that score_perturbations writes"
    about = read_json(folder / "about.json", what)
    table = pd.read_csv(existing(folder / "per_perturbation.csv", what), dtype={"condition": str})
    profiles = ad.read_h5ad(existing(folder / "profiles.h5ad", what))
    return Scores(table, profiles, about)
