"""How well cells are classified: accuracy and F1, and what guessing would give."""

# C cells, K classes

from collections.abc import Sequence

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


def entropy_bits(codes_B: np.ndarray) -> float:
    """Of the labels of a batch: 0 where all are alike, 1 for two halves."""
    numbers = np.bincount(codes_B)
    share = numbers[numbers > 0] / len(codes_B)
    return float(-(share * np.log2(share)).sum()) + 0.0
