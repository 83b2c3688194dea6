"""Quality of a converted screen, as tables: its perturbations, their targets, batches and cells."""

# K groups (a condition in a cell type), G genes

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from vcpipe.config.checks import Checked, Checks
from vcpipe.data.check_summary import SUMMARY_COLUMNS, summary_table
from vcpipe.data.group_sums import pair_of, variance_KG
from vcpipe.data.measurements import (
    Comparison,
    Measurements,
    compare,
    measure,
    p_values,
    rms_change,
)
from vcpipe.data.screen import CONTROL, Screen, perturbed_genes
from vcpipe.files import existing

# What is said of a target: it changes as it should, too little, or not beyond doubt.
VERDICTS = {
    "down": ("knocked_down", "weak_knockdown", "unclear_knockdown"),
    "up": ("activated", "weak_activation", "unclear_activation"),
}
NOT_MEASURED, TOO_LOW, NOT_JUDGED = "target_not_measured", "target_too_low", "not_judged"
TARGET_FLAGS = [NOT_MEASURED, TOO_LOW, *(word for words in VERDICTS.values() for word in words[1:])]
TARGET_COLUMNS = [
    "condition",
    "cell_type",
    "target",
    "verdict",
    "num_cells",
    "num_controls",
    "expected_counts",
    "control_expression",
    "perturbed_expression",
    "fold_change",
    "standard_error",
    "knockdown",
    "t",
    "p_value",
    "fdr",
    "rank",
]


def check_screen(screen: Screen, config: Checked) -> dict[str, pd.DataFrame]:
    """All tables by name: perturbations, targets, batches, depth, outliers, summary."""
    thresholds = config.thresholds
    measured = measure(screen)
    cells = cell_table(screen, measured)
    depth = depth_table(cells, thresholds.num_mads)
    cells["reason"] = outlier_reasons(cells, depth)
    changes, targets = compare_groups(screen, measured, config)
    perturbations = perturbation_table(cells, changes, targets, thresholds)
    batches = batch_table(cells, thresholds)
    columns = ["cell", "condition", "cell_type", "batch", "umi", "genes", "reason"]
    tables = {
        "perturbations": perturbations,
        "targets": targets,
        "batches": batches,
        "depth": depth,
        "outliers": cells.loc[cells["reason"] != "", columns],
    }
    return tables | {"summary": summary_table(screen, tables, config)}


def cell_table(screen: Screen, measured: Measurements) -> pd.DataFrame:
    """The labels and the depth of every cell, and whether its batch has controls of its type."""
    cells = pd.DataFrame(
        {
            "cell": screen.cells,
            "condition": pd.Categorical(screen.condition),
            "cell_type": pd.Categorical(screen.cell_type),
            "batch": pd.Categorical(screen.batch),
            "group": measured.group_C,
            "is_control": screen.condition == CONTROL,
            "umi": measured.umi_C.astype(np.int64),
            "genes": measured.detected_C,
        }
    )
    in_batch = cells.groupby(["batch", "cell_type"], observed=True)["is_control"]
    cells["has_controls"] = in_batch.transform("any")
    return cells


def depth_table(cells: pd.DataFrame, num_mads: float) -> pd.DataFrame:
    """The usual range of UMI and of detected genes in each cell type, and who is outside.

    Without spread (most cells have the same value) there is no range, and nobody is outside.
    """
    rows = []
    for cell_type, its in cells.groupby("cell_type", observed=True):
        for name in ("umi", "genes"):
            log = np.log1p(its[name])
            mad = stats.median_abs_deviation(log)
            reach = num_mads * mad if mad > 0 else np.inf
            low, high = np.expm1([log.median() - reach, log.median() + reach])
            rows.append(
                {
                    "cell_type": cell_type,
                    "measure": name,
                    "num_cells": len(its),
                    "median": its[name].median(),
                    "mad_of_log1p": mad,
                    "low": low,
                    "high": high,
                    "num_below": int((its[name] < low).sum()),
                    "num_above": int((its[name] > high).sum()),
                }
            )
    return pd.DataFrame(rows)


def outlier_reasons(cells: pd.DataFrame, depth: pd.DataFrame) -> list[str]:
    """What is unusual about each cell, in words: "low_umi,low_genes"; nothing for most."""
    marks = {}
    for name in ("umi", "genes"):
        limits = depth[depth["measure"] == name].set_index("cell_type")
        low, high = (cells["cell_type"].astype(str).map(limits[key]) for key in ("low", "high"))
        marks[f"low_{name}"] = cells[name] < low
        marks[f"high_{name}"] = cells[name] > high
    return joined(marks)


def joined(marks: dict[str, np.ndarray]) -> list[str]:
    """The names of the marks that each row has: "few_cells,low_depth"."""
    names = np.array(list(marks))
    rows, first = np.unique(np.column_stack(list(marks.values())), axis=0, return_inverse=True)
    words = np.array([",".join(names[row]) for row in rows], dtype=object)
    return words[first.ravel()].tolist()


def compare_groups(
    screen: Screen, measured: Measurements, config: Checked
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How each group differs from its controls in all other genes, and in its targets."""
    changes, targets = [], []
    for group, (condition, cell_type) in enumerate(measured.groups.itertuples(index=False)):
        if condition == CONTROL:
            continue
        compared = compare(measured.values, group, measured.control_K[group])
        genes = perturbed_genes(condition)
        others_G = ~np.isin(screen.genes, genes)
        fdr_G = stats.false_discovery_control(p_values(compared, "none")[others_G])
        changes.append(
            {
                "group": group,
                "num_de_genes": int((fdr_G <= config.thresholds.max_fdr).sum()),
                "rms_change": rms_change(compared),
            }
        )
        for gene in genes:
            names = {"condition": condition, "cell_type": cell_type, "target": gene}
            found = np.flatnonzero(screen.genes == gene)
            numbers = (
                target_numbers(screen, measured, group, gene)
                | target_test(compared, found[0], config.effect)
                if len(found)
                else {}
            )
            targets.append(names | numbers)
    return pd.DataFrame(changes), judged_targets(targets, config)


def target_numbers(screen: Screen, measured: Measurements, group: int, gene: str) -> dict:
    """A target's mean expression (counts per target_sum) with and without the perturbation."""
    control, target = measured.control_K[group], np.flatnonzero(measured.targets_T == gene)[0]
    pair = pair_of(measured.expression, group, control)
    umi = measured.umi_K[[group, control]]
    mean = pair.mean_KG[:, target]
    # No mean is known better than to one count: else 0 counts would be 0 without any doubt.
    one_count = screen.target_sum / umi
    error = np.maximum(np.sqrt(variance_KG(pair)[:, target] / pair.num_cells_K), one_count)
    expected = mean[1] if mean[1] > 0 else np.nan
    fold = mean[0] / expected
    return {
        "num_cells": pair.num_cells_K[0],
        "num_controls": pair.num_cells_K[1],
        "expected_counts": mean[1] / one_count[0],
        "control_expression": mean[1],
        "perturbed_expression": mean[0],
        "fold_change": fold,
        "standard_error": np.hypot(error[0], fold * error[1]) / expected,
        "knockdown": 1 - fold,
    }


def target_test(compared: Comparison, column: int, effect: str) -> dict:
    """Welch's test of the target's log-normalised values, and its place among all genes."""
    strength_G = {"down": -compared.t_G, "up": compared.t_G, "none": np.abs(compared.t_G)}[effect]
    return {
        "t": compared.t_G[column],
        "p_value": p_values(compared, effect)[column],
        "rank": 1 + int((strength_G > strength_G[column]).sum()),
    }


def judged_targets(rows: list[dict], config: Checked) -> pd.DataFrame:
    """The targets with false discovery rates and verdicts; numbers are empty if not measured."""
    table = pd.DataFrame(rows, columns=TARGET_COLUMNS)
    for name in ("num_cells", "num_controls", "rank"):
        table[name] = table[name].astype("Int64")
    is_measured = table["t"].notna()
    is_judged = is_measured & (table["expected_counts"] >= config.thresholds.min_expected_counts)
    p_value = table.loc[is_judged, "p_value"].to_numpy(dtype=float)
    table.loc[is_judged, "fdr"] = stats.false_discovery_control(p_value) if len(p_value) else []
    if config.effect == "none":
        table["verdict"] = np.where(is_measured, NOT_JUDGED, NOT_MEASURED)
        return table
    good, weak, unclear = VERDICTS[config.effect]
    change, least = {
        "down": (table["knockdown"], config.thresholds.min_knockdown),
        "up": (-table["knockdown"], config.thresholds.min_activation),
    }[config.effect]
    table["verdict"] = np.select(
        [
            ~is_measured,
            ~is_judged,
            (change < least).to_numpy(dtype=bool),
            (table["fdr"] > config.thresholds.max_fdr).to_numpy(dtype=bool),
        ],
        [NOT_MEASURED, TOO_LOW, weak, unclear],
        good,
    )
    return table


def cell_types(cells: pd.DataFrame) -> pd.DataFrame:
    """What perturbations and batches are held against: all cells of their type."""
    return cells.groupby("cell_type", observed=True).agg(
        num_batches=("batch", "nunique"),
        median_umi=("umi", "median"),
        control_share=("is_control", "mean"),
    )


def perturbation_table(
    cells: pd.DataFrame, changes: pd.DataFrame, targets: pd.DataFrame, thresholds: Checks
) -> pd.DataFrame:
    """A row for each condition and cell type, controls first; they differ from nothing."""
    cells = cells.assign(is_outlier=cells["reason"] != "", alone=~cells["has_controls"])
    table = (
        cells.groupby("group")
        .agg(
            condition=("condition", "first"),
            cell_type=("cell_type", "first"),
            num_cells=("cell", "size"),
            num_batches=("batch", "nunique"),
            num_without_controls=("alone", "sum"),
            median_umi=("umi", "median"),
            umi_q25=("umi", lambda umi: umi.quantile(0.25)),
            umi_q75=("umi", lambda umi: umi.quantile(0.75)),
            median_genes=("genes", "median"),
            num_outliers=("is_outlier", "sum"),
        )
        .astype({"condition": str, "cell_type": str})
    )
    table = table.join(changes.set_index("group").astype({"num_de_genes": "Int64"}))
    verdicts = targets.groupby(["condition", "cell_type"])["verdict"].agg(list)
    of_group = [verdicts.get(key, []) for key in zip(table.condition, table.cell_type, strict=True)]
    table["target_verdict"] = ["+".join(words) for words in of_group]

    usual = cell_types(cells).loc[table["cell_type"]].set_axis(table.index)
    marks = {
        "few_cells": table["num_cells"] < thresholds.min_cells,
        "low_depth": table["median_umi"] < thresholds.min_relative_depth * usual["median_umi"],
        "many_outliers": table["num_outliers"] > thresholds.max_outlier_share * table["num_cells"],
        "single_batch": (table["num_batches"] == 1) & (usual["num_batches"] > 1),
        "never_with_controls": table["num_without_controls"] == table["num_cells"],
    }
    for word in TARGET_FLAGS:
        marks[word] = np.array([word in words for words in of_group])
    table["flags"] = joined(marks)
    return table.reset_index(drop=True)


def batch_table(cells: pd.DataFrame, thresholds: Checks) -> pd.DataFrame:
    """A row for each batch and cell type, with its share of controls."""
    table = (
        cells.groupby(["batch", "cell_type"], observed=True)
        .agg(
            num_cells=("cell", "size"),
            num_controls=("is_control", "sum"),
            control_share=("is_control", "mean"),
            median_umi=("umi", "median"),
            umi_q25=("umi", lambda umi: umi.quantile(0.25)),
            umi_q75=("umi", lambda umi: umi.quantile(0.75)),
        )
        .reset_index()
        .astype({"batch": str, "cell_type": str})
    )
    usual = cell_types(cells).loc[table["cell_type"]].set_axis(table.index)
    table["expected_controls"] = table["num_cells"] * usual["control_share"]
    least_share = thresholds.min_control_share * usual["control_share"]
    marks = {
        "no_controls": table["num_controls"] == 0,
        "few_controls": (table["num_controls"] > 0) & (table["control_share"] < least_share),
        "only_controls": table["num_controls"] == table["num_cells"],
        "low_depth": table["median_umi"] < thresholds.min_relative_depth * usual["median_umi"],
    }
    table["flags"] = joined(marks)
    return table


def write_checks(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write each table as {name}.tsv into an existing folder."""
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.tsv", sep="\t", index=False, float_format="%.6g")


def read_summaries(folders: list[Path]) -> pd.DataFrame:
    """The summaries of some datasets, one below the other."""
    what = "the summary.tsv that check_dataset writes"
    # Everything is text: "NA" is a gene before it is a missing value.
    tables = [
        pd.read_csv(
            existing(Path(folder) / "summary.tsv", what), sep="\t", dtype=str, keep_default_na=False
        )
        for folder in folders
    ]
    return pd.concat(tables) if tables else pd.DataFrame(columns=SUMMARY_COLUMNS)
