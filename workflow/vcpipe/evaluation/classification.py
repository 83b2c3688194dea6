"""How well cells are classified: accuracy and F1, and what guessing would give."""

# C cells, K classes, T tasks

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

METRICS = ("macro_f1", "accuracy", "weighted_f1")


def class_table(truth_C: np.ndarray, predicted_C: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """A row for each class: support, precision, recall, f1; 0 where nothing is divided by nothing.

    Classes that were never to be predicted stand in the table too, if cells are of them.
    """
    num_classes = len(names)
    support_K = np.bincount(truth_C, minlength=num_classes)
    guessed_K = np.bincount(predicted_C, minlength=num_classes)
    right_K = np.bincount(truth_C[truth_C == predicted_C], minlength=num_classes)
    return pd.DataFrame(
        {
            "class": list(names),
            "support": support_K,
            "predicted": guessed_K,
            "precision": _share(right_K, guessed_K),
            "recall": _share(right_K, support_K),
            "f1": _share(2 * right_K, support_K + guessed_K),
        }
    )


def _share(part_K: np.ndarray, whole_K: np.ndarray) -> np.ndarray:
    return np.divide(part_K, whole_K, out=np.zeros(len(part_K)), where=whole_K > 0)


def scores(table: pd.DataFrame) -> dict[str, float]:
    """Of a class table; macro-F1 is the mean over classes that the scored cells have.

    A class without cells can't be found: counting it as 0 would hold the best classifier below 1.
    """
    support_K = table["support"].to_numpy()
    present = support_K > 0
    num_cells = support_K.sum()
    return {
        "macro_f1": float(table["f1"].to_numpy()[present].mean()),
        "accuracy": float((table["recall"].to_numpy() * support_K).sum() / num_cells),
        "weighted_f1": float((table["f1"].to_numpy() * support_K).sum() / num_cells),
    }


def chance(truth_C: np.ndarray, num_guessed: int, names: Sequence[str]) -> dict[str, float]:
    """Expected scores of who guesses each of the first classes equally often."""
    support_K = np.bincount(truth_C, minlength=len(names))
    share_K = support_K / support_K.sum()
    known_K = np.arange(len(names)) < num_guessed
    guess = 1 / num_guessed
    f1_K = np.where(known_K, 2 * share_K * guess / (share_K + guess), 0)
    return {
        "macro_f1": float(f1_K[support_K > 0].mean()),
        "accuracy": float(share_K[known_K].sum() * guess),
        "weighted_f1": float((f1_K * share_K).sum()),
    }


def majority(truth_C: np.ndarray, most_frequent: int, names: Sequence[str]) -> dict[str, float]:
    """Scores of who always says the class that most training cells have."""
    return scores(class_table(truth_C, np.full(len(truth_C), most_frequent), names))


def score_tasks(
    classes: Mapping[str, Sequence[str]],
    unknown: Mapping[str, Sequence[str]],
    train_CT: np.ndarray,
    test_CT: np.ndarray,
    predicted_CT: np.ndarray,
) -> tuple[pd.DataFrame, dict]:
    """A row for each class of each task, and by task the scores beside those of guessing.

    `unknown` are labels of test cells that no training cell has. They have numbers behind those of
    classes, are never predicted, and count as they should: as wrong.
    """
    tables, tasks = [], {}
    for place, task in enumerate(classes):
        truth_C, known = test_CT[:, place].astype(np.int64), len(classes[task])
        names = [*classes[task], *unknown[task]]
        table = class_table(truth_C, predicted_CT[:, place], names)
        frequent = int(np.bincount(train_CT[:, place]).argmax())
        tasks[task] = {
            "scores": scores(table),
            "chance": chance(truth_C, known, names),
            "majority": majority(truth_C, frequent, names),
            "num_classes": known,
            "num_test_classes": int((table["support"] > 0).sum()),
            "unknown_labels": list(unknown[task]),
            "num_unknown_cells": int((truth_C >= known).sum()),
        }
        table.insert(0, "task", task)
        table["known"] = np.arange(len(names)) < known
        tables.append(table)
    return pd.concat(tables, ignore_index=True), tasks
