"""From the folders of loader_experiment to one table, and means over seeds with intervals."""

# S seeds

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from vcpipe.config.loader import STRATEGIES, TASKS
from vcpipe.errors import InputError, listed
from vcpipe.evaluation.classification import METRICS
from vcpipe.files import existing, read_json, write_json

FORMAT = 1
BASELINES = ("chance", "majority")
ABOUT = ("strategy", "backend", "block_size", "fetch_factor", "seed")
EFFORT = (
    "cells_per_second",
    "wait_share",
    "seconds",
    "cpu_seconds",
    "peak_memory_mb",
    "bytes_read",
    "disk_bytes_read",
)
ENTROPIES = ("plate", *TASKS)
CONDITIONS = ("cache", "threads", "load_average", "num_train_cells", "num_test_cells")
WHOLE = (
    "block_size",
    "fetch_factor",
    "seed",
    "threads",
    "bytes_read",
    "disk_bytes_read",
    "num_train_cells",
    "num_test_cells",
)
# Runs that differ in one of these are not about loading alone.
SAME = (
    "cache",
    "threads",
    "num_genes",
    "num_train_cells",
    "num_test_cells",
    "data_digest",
    "test_digest",
    "epochs",
)
SECTIONS = ("training", "data")  # of the settings, in which they must be the same too
# Seeds are to differ; whatever the plates and labels are from, digests say whether they are others.
FREE = ("seeds", "h5ad_dir", "label_dir", "simulate")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SeedResult:
    """One run of one strategy."""

    about: dict  # scores.json
    metrics: pd.DataFrame  # losses and rates by update
    curves: pd.DataFrame  # step, set, task, loss
    classes: pd.DataFrame  # F1 of each class

    @property
    def name(self) -> str:
        return f"{self.about['strategy']}, seed {self.about['seed']}"

    def in_words(self) -> str:
        tasks = self.about["tasks"].items()
        shown = ", ".join(f"{task} {its['scores']['macro_f1']:.3f}" for task, its in tasks)
        return f"{self.name}: macro-F1 {shown}; {self.about['cells_per_second']:,.0f} cells/s"


def seed_result(about: dict, metrics: list, curves: list, classes: pd.DataFrame) -> SeedResult:
    """Rows of losses as the training loop has them, as tables."""
    columns = ["step", "epoch", "lr", "grad_norm", "train_loss", "val_loss"]
    by_task = ["step", "set", "task", "loss"]
    return SeedResult(
        about,
        pd.DataFrame(metrics, columns=columns),
        pd.DataFrame(curves, columns=by_task),
        classes,
    )


def write_result(folder: Path, result: SeedResult) -> None:
    """Write scores.json, classes.tsv, curves.csv and metrics.csv of one run."""
    folder.mkdir()
    result.metrics.to_csv(folder / "metrics.csv", index=False, lineterminator="\n")
    result.curves.to_csv(folder / "curves.csv", index=False, lineterminator="\n")
    result.classes.to_csv(folder / "classes.tsv", sep="\t", index=False, float_format="%.6g")
    write_json(folder / "scores.json", {"format": FORMAT, **result.about})


def read_results(folders: Sequence[Path]) -> list[SeedResult]:
    """All runs in folders of loader_experiment, by strategy and seed."""
    results = []
    for folder in map(Path, folders):
        inside = sorted(existing(folder, "a folder of loader_experiment").glob("seed_*"))
        if not inside:
            raise InputError(f"{folder} holds no run (seed_0, ...); rerun loader_experiment.")
        for path in inside:
            about = read_json(path / "scores.json", "the scores that loader_experiment writes")
            if about.get("format") != FORMAT:
                raise InputError(
                    f"{path} has format {about.get('format')!r}; expected {FORMAT}. Rerun "
                    "loader_experiment."
                )
            metrics = pd.read_csv(existing(path / "metrics.csv", "losses of a run"))
            curves = pd.read_csv(
                existing(path / "curves.csv", "losses of a run by task"),
                float_precision="round_trip",
            )
            # A class may be called "NA" or "None".
            classes = pd.read_csv(
                existing(path / "classes.tsv", "F1 of classes"), sep="\t", keep_default_na=False
            )
            results.append(SeedResult(about, metrics, curves, classes))
    place = {name: number for number, name in enumerate(STRATEGIES)}
    results.sort(key=lambda each: (place[each.about["strategy"]], each.about["seed"]))
    return results


def summarise_results(results: Sequence[SeedResult]) -> pd.DataFrame:
    """A row for each run and task, and two of guessing for each task."""
    check_comparable(results)
    rows = []
    for each in results:
        about = each.about
        shared = {key: about[key] for key in (*ABOUT, *EFFORT, *CONDITIONS)}
        shared |= {f"entropy_{name}": about["entropy"][name] for name in ENTROPIES}
        shared["entropy_plate_of_chance"] = about["entropy_of_chance"]["plate"]
        for name in ("config_digest", "data_digest", "code_version"):
            shared[name] = about[name]
        rows += [{**shared, **_of_task(about, task, "scores")} for task in TASKS]
    first = results[0].about
    for kind in BASELINES:
        # What guessing gives follows from the test cells, and from the classes of training.
        rows += [{"strategy": kind, **_of_task(first, task, kind)} for task in TASKS]
    summary = pd.DataFrame(rows, columns=summary_columns())
    # Whole numbers stay whole beside rows that have none.
    return summary.astype(dict.fromkeys(WHOLE, "Int64"))


def summary_columns() -> list[str]:
    return [
        *ABOUT,
        "task",
        *METRICS,
        "num_classes",
        "num_test_classes",
        "num_unknown_cells",
        *EFFORT,
        *(f"entropy_{name}" for name in ENTROPIES),
        "entropy_plate_of_chance",
        *CONDITIONS,
        "config_digest",
        "data_digest",
        "code_version",
    ]


def _of_task(about: dict, task: str, kind: str) -> dict:
    its = about["tasks"][task]
    numbers = {key: its[key] for key in ("num_classes", "num_test_classes", "num_unknown_cells")}
    return {"task": task, **its[kind], **numbers}


def check_comparable(results: Sequence[SeedResult]) -> None:
    """Every strategy must be trained alike and scored on the same cells."""
    if not results:
        raise InputError("There is no run to summarise; expected folders of loader_experiment.")
    names = [each.name for each in results]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{listed(twice)} is there twice; give one folder for each strategy.")
    first = results[0]
    expected = _conditions(first.about)
    for each in results[1:]:
        its = _conditions(each.about)
        for key in {**expected, **its}:
            if its.get(key) != expected.get(key):
                raise InputError(
                    f"{each.name} has {key} {its.get(key)!r} and {first.name} has "
                    f"{expected.get(key)!r}; expected the same. Rerun loader_experiment for the "
                    "older one."
                )


def _conditions(about: dict) -> dict:
    """What runs must have in common, by name: training.batch_size is a setting."""
    # The store may fit into memory where the plates do not: that is its merit.
    found = {key: about[key] for key in SAME} | {"cache": about["cache"].removeprefix("partly ")}
    for section in SECTIONS:
        its = about["config"][section].items()
        found |= {f"{section}.{key}": value for key, value in its if key not in FREE}
    return found


def over_seeds(summary: pd.DataFrame) -> pd.DataFrame:
    """Of each strategy and task the mean over seeds, its spread and a 95 % interval (Student's t).

    The interval is of the mean over seeds; other cells are no part of it.
    """
    measured = [*METRICS, "cells_per_second", "wait_share", "peak_memory_mb", "entropy_plate"]
    rows = []
    for (strategy, task), its in summary.groupby(["strategy", "task"], sort=False):
        row = {"strategy": strategy, "task": task, "num_seeds": int(its["seed"].notna().sum())}
        for name in measured:
            value_S = its[name].dropna().to_numpy(dtype=float)
            low, high = mean_interval(value_S)
            row |= {
                name: value_S.mean() if len(value_S) else np.nan,
                f"{name}_sd": value_S.std(ddof=1) if len(value_S) > 1 else np.nan,
                f"{name}_ci_low": low,
                f"{name}_ci_high": high,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def mean_interval(value_S: np.ndarray) -> tuple[float, float]:
    """Student's interval of a mean; NaN for fewer than two values."""
    if len(value_S) < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(value_S) - 1) * stats.sem(value_S)
    return float(value_S.mean() - half), float(value_S.mean() + half)
