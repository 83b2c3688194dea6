"""From scores per perturbation to one row per model and metric, and words about baselines."""

# P perturbations, R resamples

from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.config.eval import Summary
from vcpipe.data.model_cells import SEEN
from vcpipe.errors import InputError, listed
from vcpipe.evaluation.metrics import METRICS
from vcpipe.evaluation.scoring import Scores
from vcpipe.files import existing

COLUMNS = [
    "model",
    "kind",
    "dataset",
    "split",
    "task",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "higher_is_better",
    "official",
    "config_digest",
    "data_digest",
]
VERDICT_COLUMNS = [
    "model",
    "dataset",
    "split",
    "metric",
    "best_baseline",
    "difference",
    "ci_low",
    "ci_high",
    "verdict",
    "notes",
]
# Where nothing was held out, models are scored on what they were trained on.
UNSEEN_TASK, SEEN_TASK = "perturbation", "seen_perturbation"

# Resampling fewer values than these gives intervals that mean nothing.
FEWEST_FOR_A_VERDICT = 5


def summarise(scores: list[Scores], config: Summary) -> pd.DataFrame:
    """Mean and interval over perturbations; of one metric the best model stands first."""
    check_comparable([each.about for each in scores])
    rows = []
    for each in scores:
        about = {key: each.about[key] for key in ("model", "kind", "dataset", "split")}
        digests = {key: each.about[key] for key in ("config_digest", "data_digest")}
        is_seen = (each.per_perturbation["subgroup"] == SEEN).all()
        for metric, table in each.per_perturbation.groupby("metric", sort=False):
            value_P = table["value"].dropna().to_numpy()
            low, high = bootstrap_interval(value_P, config)
            rows.append(
                {
                    **about,
                    "task": SEEN_TASK if is_seen else UNSEEN_TASK,
                    "metric": metric,
                    "value": value_P.mean() if len(value_P) else np.nan,
                    "ci_low": low,
                    "ci_high": high,
                    "n": len(value_P),
                    "higher_is_better": METRICS[metric].higher_is_better,
                    "official": False,
                    **digests,
                }
            )
    return ranked(pd.DataFrame(rows, columns=COLUMNS))


def read_summary(path: Path) -> pd.DataFrame:
    """Read a summary.csv; names such as "1" or "NA" stay text."""
    names = ["model", "kind", "dataset", "split", "task", "metric", "config_digest", "data_digest"]
    what = "the summary.csv that summarise writes"
    header = pd.read_csv(existing(path, what), nrows=0).columns
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputError(f"{path} has no column {listed(missing)}; expected {what}.")
    text = dict.fromkeys(names, str)
    return pd.read_csv(
        path,
        dtype=text,
        keep_default_na=False,
        na_values={"value": "", "ci_low": "", "ci_high": ""},
    )


def ranked(summary: pd.DataFrame) -> pd.DataFrame:
    """Sort by dataset, split, task and metric, then the better value first."""
    order = {metric: position for position, metric in enumerate(METRICS)}
    keys = pd.DataFrame(
        {
            "dataset": summary["dataset"],
            "split": summary["split"],
            "task": summary["task"],
            "metric": summary["metric"].map(order),
            "value": np.where(summary["higher_is_better"], -1, 1) * summary["value"].astype(float),
            "model": summary["model"],
        }
    )
    return summary.loc[keys.sort_values(list(keys)).index].reset_index(drop=True)


def bootstrap_interval(value_P: np.ndarray, config: Summary) -> tuple[float, float]:
    """Percentile interval of the mean over perturbations; NaN for fewer than two of them.

    The generator starts anew each time: a row does not depend on which other models there are.
    """
    if len(value_P) < 2:
        return np.nan, np.nan
    generator = np.random.default_rng(config.seed)
    size = (config.num_bootstrap, len(value_P))
    mean_R = value_P[generator.integers(len(value_P), size=size)].mean(axis=1)
    tail = (1 - config.confidence) / 2
    low, high = np.quantile(mean_R, [tail, 1 - tail])
    return float(low), float(high)


def check_comparable(abouts: list[dict]) -> None:
    """Models of one dataset must be scored on the same data, and of one split in the same way."""
    first: dict[tuple, dict] = {}
    for about in abouts:
        dataset, split, model = about["dataset"], about["split"], about["model"]
        if (dataset, split, model) in first:
            raise InputError(
                f"{model} is scored twice on {dataset}, split {split}; give one folder for each."
            )
        first[dataset, split, model] = about
        same_data = first.setdefault((dataset,), about)
        if about["data_digest"] != same_data["data_digest"]:
            raise InputError(
                f"{model} and {same_data['model']} were scored on different data of {dataset} "
                f"(data_digest {about['data_digest']} and {same_data['data_digest']}); expected "
                "the same. Rerun predict_perturbations and score_perturbations for the older one."
            )
        same_split = first.setdefault((dataset, split), about)
        for key in ("scoring", "num_perturbations"):
            if about[key] != same_split[key]:
                raise InputError(
                    f"{model} and {same_split['model']} were scored differently on {dataset}, "
                    f"split {split} ({key} is {about[key]} and {same_split[key]}); "
                    "expected the same. Rerun score_perturbations with one setting."
                )


def verdicts(scores: list[Scores], summary: pd.DataFrame, config: Summary) -> pd.DataFrame:
    """Hold each model against the best baseline, perturbation by perturbation.

    `difference` is model minus baseline in the metric's own unit; the verdict knows its direction.
    """
    values = {_key(each.about): _wide(each) for each in scores}
    notes = {_key(each.about): "; ".join(each.about["notes"]) for each in scores}
    usable = summary[(summary["kind"] == "baseline") & (summary["n"] > 0)]
    # ranked() has put the best first.
    best = usable.drop_duplicates(["dataset", "split", "metric"]).set_index(
        ["dataset", "split", "metric"]
    )["model"]
    rows = []
    for row in summary[summary["kind"] == "model"].itertuples():
        place = (row.dataset, row.split)
        baseline = best.get((*place, row.metric))
        difference_P = np.array([])
        if baseline is not None:
            model, other = values[*place, row.model], values[*place, baseline]
            difference_P = (model[row.metric] - other[row.metric]).dropna().to_numpy()
        low, high = bootstrap_interval(difference_P, config)
        rows.append(
            {
                "model": row.model,
                "dataset": row.dataset,
                "split": row.split,
                "metric": row.metric,
                "best_baseline": baseline or "",
                "difference": difference_P.mean() if len(difference_P) else np.nan,
                "ci_low": low,
                "ci_high": high,
                "verdict": verdict(low, high, row.higher_is_better)
                if len(difference_P) >= FEWEST_FOR_A_VERDICT or not len(difference_P)
                else "too few perturbations to say",
                "notes": notes[*place, row.model],
            }
        )
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def verdict(low: float, high: float, higher_is_better: bool) -> str:
    """Put an interval of differences into words: verdict(0.1, 0.3, True) gives "better"."""
    if np.isnan(low):
        return "not comparable"
    if low <= 0 <= high:
        return "no clear difference"
    return "better" if (low > 0) == higher_is_better else "worse"


def wide_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Values with a row per model and a column per metric; models stand above baselines."""
    metrics = [name for name in METRICS if name in set(summary["metric"])]
    table = summary.pivot(
        index=["dataset", "split", "kind", "model"], columns="metric", values="value"
    )[metrics]
    # In falling order "model" comes before "baseline".
    return table.sort_index(ascending=[True, True, False, True])


def best_models(summary: pd.DataFrame) -> set[tuple[str, str, str, str]]:
    """(dataset, split, metric, model) of the best value of each metric; several if they tie."""
    known = summary[summary["value"].notna()]
    sign = np.where(known["higher_is_better"], 1, -1)
    strength = known["value"] * sign
    largest = strength.groupby([known[key] for key in ("dataset", "split", "metric")]).transform(
        "max"
    )
    best = known[strength == largest]
    return set(zip(best["dataset"], best["split"], best["metric"], best["model"], strict=True))


def _key(about: dict) -> tuple[str, str, str]:
    return about["dataset"], about["split"], about["model"]


def _wide(scores: Scores) -> pd.DataFrame:
    return scores.per_perturbation.pivot(index="condition", columns="metric", values="value")
