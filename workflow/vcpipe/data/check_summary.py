"""The checks of a screen in short: what it is, what is flagged, and what to do about it."""

import pandas as pd

from vcpipe.config.checks import Checked, Checks
from vcpipe.data.screen import CONTROL, Screen
from vcpipe.errors import listed

SUMMARY_COLUMNS = ["dataset", "key", "value", "flag", "advice"]

LEAVE_OUT = "leave them out with a custom split (set unused)"
OF_ANOTHER_EFFECT = {
    "down": ("_activation",),
    "up": ("_knockdown",),
    "none": ("_activation", "_knockdown", "target_too_low"),
}

# Flag -> what it says of the flagged ones, and what to do; thresholds and dataset are filled in.
ADVICE = {
    "perturbations": {
        "few_cells": (
            "have fewer than {min_cells} cells, so their means are noisy",
            "read their scores with care, or drop them: datasets.{dataset}.small_perturbations: "
            "drop, min_cells: {min_cells}",
        ),
        "low_depth": (
            "have less than {min_relative_depth:g} of the usual counts per cell",
            "compare them with care; look at cells that died or whose lane was sequenced less",
        ),
        "many_outliers": (
            "have more than {max_outlier_share:g} of cells of unusual depth",
            "look at them in outliers.tsv and remove doublets and debris from the file",
        ),
        "single_batch": (
            "are in one batch only, so their effect cannot be told from the batch's",
            f"{LEAVE_OUT}, or add cells of other batches",
        ),
        "never_with_controls": (
            "have no cell in a batch with controls, so batch effects look like theirs",
            "compare them with each other rather than with the controls, and trust no small effect",
        ),
        "target_not_measured": (
            "perturb a gene that was not measured: whether it fell is unknown",
            "keep them knowingly, or set datasets.{dataset}.unknown_targets: drop",
        ),
        "target_too_low": (
            "perturb a gene too low to judge: fewer than {min_expected_counts:g} counts expected",
            "judge the guides by other means",
        ),
        "weak_knockdown": (
            "leave more of their target than a knock-down of {min_knockdown:g} does",
            f"check their guides, and {LEAVE_OUT}; knock-outs can leave the transcript and "
            "activation raises it: then set datasets.{dataset}.effect: none or up",
        ),
        "unclear_knockdown": (
            "lower their target, but not beyond doubt (FDR above {max_fdr:g})",
            "more cells would tell; trust their effects less",
        ),
        "weak_activation": (
            "raise their target by a share of less than {min_activation:g}",
            f"check their guides, and {LEAVE_OUT}; if this is a knock-down screen, set "
            "datasets.{dataset}.effect: down",
        ),
        "unclear_activation": (
            "raise their target, but not beyond doubt (FDR above {max_fdr:g})",
            "more cells would tell; trust their effects less",
        ),
    },
    "batches": {
        "no_controls": (
            "have perturbed cells but no controls",
            "set gears.pairing.within: cell_type (batch needs controls in every batch), or leave "
            "these batches out of the file",
        ),
        "few_controls": (
            "have less than {min_control_share:g} of the screen's share of controls",
            "with gears.pairing.within: batch few controls stand for many cells; consider "
            "gears.pairing.within: cell_type",
        ),
        "only_controls": (
            "have controls but no perturbed cells",
            "these controls differ from perturbed cells by their batch too; consider leaving them "
            "out of the file",
        ),
        "low_depth": (
            "have less than {min_relative_depth:g} of the usual counts per cell",
            "see how they were loaded and sequenced; leave them out of the file if in doubt",
        ),
    },
}


def summary_table(screen: Screen, tables: dict[str, pd.DataFrame], config: Checked) -> pd.DataFrame:
    """Facts, then every check: how many are flagged and, if any, a sentence."""
    is_control = tables["perturbations"]["condition"] == CONTROL
    rows = [
        *facts(screen, tables),
        dropped_check(screen),
        control_check(tables["perturbations"][is_control]),
    ]
    for name, table in (
        ("perturbations", tables["perturbations"][~is_control]),
        ("batches", tables["batches"]),
    ):
        for flag in ADVICE[name]:
            if not flag.endswith(OF_ANOTHER_EFFECT[config.effect]):
                rows.append(check(name, table, flag, screen.name, config.thresholds))
    rows.append(outlier_check(tables, config.thresholds))
    return pd.DataFrame(rows).assign(dataset=screen.name)[SUMMARY_COLUMNS]


def facts(screen: Screen, tables: dict[str, pd.DataFrame]) -> list[dict]:
    """What the screen is; nothing of it is right or wrong."""
    perturbations, batches = tables["perturbations"], tables["batches"]
    perturbed = perturbations[perturbations["condition"] != CONTROL]
    judged = tables["targets"].dropna(subset=["fdr"])
    depth = tables["depth"].set_index(["cell_type", "measure"])["median"]
    found = {
        "num_cells": len(screen.cells),
        "num_genes": len(screen.genes),
        "num_perturbations": perturbed["condition"].nunique(),
        "num_batches": batches["batch"].nunique(),
        "cell_types": listed(batches["cell_type"].unique()),
        "median_cells_of_a_perturbation": f"{perturbed['num_cells'].median():g}",
        "median_umi": ", ".join(f"{value:g}" for value in depth.xs("umi", level=1)),
        "median_genes": ", ".join(f"{value:g}" for value in depth.xs("genes", level=1)),
        "num_judged_targets": f"{len(judged)} of {len(tables['targets'])}",
        "median_fold_change_of_targets": f"{judged['fold_change'].median():.3f}"
        if len(judged)
        else "unknown",
    }
    return [{"key": key, "value": value, "flag": "", "advice": ""} for key, value in found.items()]


def dropped_check(screen: Screen) -> dict:
    """The cells that the conversion left out, by policy or by label."""
    dropped = screen.about["dropped_cells"] | screen.about["dropped_labels"]
    shown = listed([f"{label} ({number})" for label, number in dropped.items()])
    advice = (
        f"Left out of everything, by unknown_targets, small_perturbations or drop_labels: {shown}; "
        "conversion.json names all."
    )
    return {
        "key": "dropped_cells",
        "value": sum(dropped.values()),
        "flag": "dropped" if dropped else "ok",
        "advice": advice if dropped else "",
    }


def control_check(controls: pd.DataFrame) -> dict:
    """The control cells, which every perturbation is compared with."""
    flags = sorted({flag for flags in controls["flags"] for flag in flags.split(",") if flag})
    advice = (
        "Every perturbation is compared with the controls, so look at them first: their row in "
        "perturbations.tsv has these flags."
    )
    return {
        "key": "num_controls",
        "value": controls["num_cells"].sum(),
        "flag": ",".join(flags) or "ok",
        "advice": advice if flags else "",
    }


def check(name: str, table: pd.DataFrame, flag: str, dataset: str, thresholds: Checks) -> dict:
    """How many rows of a table have a flag; if any, who they are and what to do."""
    has_flag = [flag in flags.split(",") for flags in table["flags"]]
    labels = row_labels(table)[has_flag]
    finding, remedy = (
        text.format(**thresholds.model_dump(), dataset=dataset) for text in ADVICE[name][flag]
    )
    advice = (
        f"{len(labels)} of {len(table)} {name} {finding}: {listed(labels)}. "
        f"{remedy[0].upper()}{remedy[1:]}."
    )
    return {
        "key": f"{name}.{flag}",
        "value": len(labels),
        "flag": flag if len(labels) else "ok",
        "advice": advice if len(labels) else "",
    }


def row_labels(table: pd.DataFrame) -> pd.Series:
    """The first column; with the cell type, where there are several."""
    labels = table.iloc[:, 0]
    if table["cell_type"].nunique() == 1:
        return labels
    return labels + " in " + table["cell_type"]


def outlier_check(tables: dict[str, pd.DataFrame], thresholds: Checks) -> dict:
    """Cells of unusual depth; a few there always are."""
    count, total = len(tables["outliers"]), tables["batches"]["num_cells"].sum()
    many = count > thresholds.max_outlier_share * total
    advice = (
        f"{count} of {total} cells have unusually many or few counts or genes. Look at "
        "outliers.tsv and depth.tsv, and remove doublets and debris from the file."
    )
    return {
        "key": "cells.outliers",
        "value": count,
        "flag": "many_outliers" if many else "ok",
        "advice": advice if many else "",
    }
