"""The quality of a screen: cells and depth of perturbations, knock-down, batches."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from vcpipe.config.checks import Checked, Checks
from vcpipe.plots.figures import (
    BLUE,
    GREY,
    LIGHT_GREY,
    ORANGE,
    VERMILION,
    drawing,
    panels,
    save_svg,
)

CONTROL = "ctrl"  # that of data.screen, which plots may not import: they read tables only
NUM_NAMED = 240  # beyond it, names would be illegible or the figure higher than any screen
ROWS_PER_PANEL = 60
SMALLEST_FOLD = 1 / 64  # of a logarithm; below it there are no counts to speak of

VERDICT_COLOURS = {
    ("knocked_down", "activated", "not_judged"): BLUE,
    ("weak_knockdown", "weak_activation"): VERMILION,
    ("unclear_knockdown", "unclear_activation"): ORANGE,
    ("target_too_low",): GREY,
    ("target_not_measured",): LIGHT_GREY,
}


def write_check_figures(
    folder: Path, tables: dict[str, pd.DataFrame], config: Checked, dataset: str
) -> None:
    """Write perturbations.svg, knockdown.svg and batches.svg into an existing folder."""
    figures = {
        "perturbations": perturbation_figure(tables["perturbations"], config.thresholds, dataset),
        "knockdown": knockdown_figure(tables["targets"], config, dataset),
        "batches": batch_figure(tables["batches"], config.thresholds, dataset),
    }
    for name, figure in figures.items():
        save_svg(figure, folder / f"{name}.svg")


def perturbation_figure(table: pd.DataFrame, thresholds: Checks, dataset: str) -> Figure:
    """Cells and counts of perturbations, each in falling order; flagged ones in colour."""
    controls = table[table["condition"] == CONTROL]
    perturbed = table[table["condition"] != CONTROL]
    with drawing():
        figure, (cells, depth) = panels(2, width=4.6, height=3.0)
        by_size = perturbed.sort_values("num_cells", ascending=False, kind="stable")
        _draw_ranked(cells, by_size["num_cells"], _has(by_size, "few_cells"))
        cells.axhline(thresholds.min_cells, color=GREY, linewidth=0.9, linestyle="--")
        cells.set(title="Cells of each perturbation", ylabel="Cells", yscale="log")
        cells.yaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)),
            major_formatter="{x:g}",
            minor_locator=NullLocator(),
        )
        by_depth = perturbed.sort_values("median_umi", ascending=False, kind="stable")
        _draw_ranked(depth, by_depth["median_umi"], _has(by_depth, "low_depth"))
        depth.vlines(
            range(1, len(by_depth) + 1),
            by_depth["umi_q25"],
            by_depth["umi_q75"],
            color=LIGHT_GREY,
            linewidth=1,
            zorder=0.5,
        )
        for median in controls["median_umi"]:
            depth.axhline(median, color=BLUE, linewidth=0.9)
        depth.set(title="Counts per cell: median and quartiles", ylabel="UMI per cell")
        depth.set_ylim(bottom=0)
        figure.suptitle(f"{len(perturbed)} perturbations of {dataset}")
        figure.legend(
            handles=[
                Line2D([], [], color=GREY, linestyle="--", label="fewest cells wanted"),
                Line2D([], [], color=BLUE, label="median of controls"),
                _dot(VERMILION, "flagged"),
            ],
            loc="outside lower center",
            ncols=3,
            fontsize=8,
        )
    return figure


def knockdown_figure(targets: pd.DataFrame, config: Checked, dataset: str) -> Figure:
    """Every target from the strongest to the weakest change, with an interval of two errors."""
    rows = targets.sort_values("fold_change", ascending=config.effect != "up", kind="stable")
    if config.effect == "down":
        title, label, least = (
            "Knock-down",
            "Share of expression lost",
            config.thresholds.min_knockdown,
        )
        drawn = _intervals(rows["knockdown"], rows["standard_error"])
    else:
        title, label, least = "Expression", "log2 of the fold of that in controls", None
        if config.effect == "up":
            least = np.log2(1 + config.thresholds.min_activation)
        drawn = _intervals(rows["fold_change"], rows["standard_error"])
        drawn = np.log2(drawn.clip(lower=SMALLEST_FOLD))
    limits = _limits(drawn["middle"])
    parts = np.array_split(np.arange(len(rows)), -(-len(rows) // ROWS_PER_PANEL))
    if len(rows) > NUM_NAMED:
        parts = [np.arange(len(rows))]
    with drawing():
        figure, axes = panels(len(parts), width=3.0, height=0.9 + _height(len(parts[0])))
        for ax, part in zip(axes, parts, strict=True):
            _draw_targets(ax, rows["verdict"].iloc[part], drawn.iloc[part], limits)
            _name_rows(ax, _names(rows.iloc[part]), len(rows) <= NUM_NAMED)
            if least is not None:
                ax.axvline(least, color=GREY, linewidth=0.9, linestyle="--", zorder=0)
            ax.set(xlim=limits, xlabel=label)
        figure.suptitle(f"{title} of {len(rows)} targets, ± 2 standard errors\n{dataset}")
        used = [words for words in VERDICT_COLOURS if set(words) & set(rows["verdict"])]
        figure.legend(
            handles=[_dot(VERDICT_COLOURS[words], _legend_of(words, rows)) for words in used],
            loc="outside lower center",
            ncols=2,
            fontsize=8,
        )
    return figure


def _intervals(middle: pd.Series, error: pd.Series) -> pd.DataFrame:
    bounds = {"low": middle - 2 * error, "middle": middle, "high": middle + 2 * error}
    return pd.DataFrame(bounds)


def _limits(middle: pd.Series) -> tuple[float, float]:
    """A frame from -1 or above it; a target that rose many times stands on its edge."""
    low = max(min(middle.min(), 0.0), -1.0) if middle.notna().any() else 0.0
    high = max(middle.max(), 1.0) if middle.notna().any() else 1.0
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def _draw_targets(
    ax, verdicts: pd.Series, drawn: pd.DataFrame, limits: tuple[float, float]
) -> None:
    ax.axvline(0, color=LIGHT_GREY, linewidth=0.6, zorder=0)
    colour_of = {word: colour for words, colour in VERDICT_COLOURS.items() for word in words}
    shown = drawn.clip(*limits)
    for position, (row, verdict) in enumerate(
        zip(shown.itertuples(index=False), verdicts, strict=True)
    ):
        colour = colour_of[verdict]
        if np.isnan(row.middle):
            ax.text(
                np.mean(limits),
                position,
                "not measured" if verdict == "target_not_measured" else "no counts in controls",
                ha="center",
                va="center",
                fontsize=7,
                style="italic",
                color=GREY,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
            continue
        ax.plot([row.low, row.high], [position] * 2, color=colour, linewidth=1)
        ax.plot(row.middle, position, marker="o", markersize=3.5, color=colour, clip_on=False)


def batch_figure(table: pd.DataFrame, thresholds: Checks, dataset: str) -> Figure:
    """Depth and share of controls of every batch; flagged ones in colour."""
    named = len(table) <= ROWS_PER_PANEL
    with drawing():
        figure, (depth, share) = panels(2, width=3.8, height=1.0 + _height(len(table)))
        position = np.arange(len(table))
        depth.hlines(
            position,
            table["umi_q25"],
            table["umi_q75"],
            color=LIGHT_GREY,
            linewidth=1.6 if named else 0.8,
            zorder=0.5,
        )
        for ax, column, words in (
            (depth, "median_umi", ["low_depth"]),
            (share, "control_share", ["no_controls", "few_controls", "only_controls"]),
        ):
            is_flagged = np.any([_has(table, word) for word in words], axis=0)
            for chosen, colour in ((~is_flagged, BLUE), (is_flagged, VERMILION)):
                ax.scatter(table[column][chosen], position[chosen], s=12, color=colour, linewidth=0)
            _name_rows(ax, _names(table), named)
            # Dots at zero stand whole inside the frame.
            ax.set_xlim(left=-0.03 * ax.get_xlim()[1])
            ax.locator_params(axis="x", nbins=5)
        usual = table["num_controls"].sum() / table["num_cells"].sum()
        share.axvline(usual, color=BLUE, linewidth=0.9, zorder=0)
        least = usual * thresholds.min_control_share
        share.axvline(least, color=GREY, linewidth=0.9, linestyle="--", zorder=0)
        depth.set(title="Counts per cell: median and quartiles", xlabel="UMI per cell")
        share.set(title="Controls", xlabel="Share of the batch's cells")
        figure.suptitle(f"{len(table)} batches of {dataset}")
        figure.legend(
            handles=[
                Line2D([], [], color=BLUE, label="share in all batches"),
                Line2D([], [], color=GREY, linestyle="--", label="least share wanted"),
                _dot(VERMILION, "flagged"),
            ],
            loc="outside lower center",
            ncols=3,
            fontsize=8,
        )
    return figure


def _draw_ranked(ax, value: pd.Series, is_flagged: np.ndarray) -> None:
    rank = np.arange(1, len(value) + 1)
    for chosen, colour in ((~is_flagged, BLUE), (is_flagged, VERMILION)):
        ax.scatter(rank[chosen], value[chosen], s=12, color=colour, linewidth=0)
    ax.grid(axis="y", color=LIGHT_GREY, linewidth=0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("Perturbations, in falling order")


def _has(table: pd.DataFrame, flag: str) -> np.ndarray:
    return np.array([flag in flags.split(",") for flags in table["flags"]], dtype=bool)


def _names(table: pd.DataFrame) -> list[str]:
    """The first column and, where it says more, the target; with several cell types, these too."""
    names = table.iloc[:, 0].str.removesuffix(f"+{CONTROL}")
    if "target" in table:
        names = names.where(names == table["target"], table["target"] + " of " + names)
    if table["cell_type"].nunique() > 1:
        names = names + ", " + table["cell_type"]
    return names.tolist()


def _name_rows(ax, names: list[str], are_shown: bool) -> None:
    """A row for each name, from the top."""
    if are_shown:
        ax.set_yticks(range(len(names)), names, fontsize=7)
    else:
        ax.set_yticks([])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=LIGHT_GREY, linewidth=0.5)


def _height(num_rows: int) -> float:
    """Inches that let names stand apart; many rows without names share eight."""
    return max(1.0, min(0.15 * num_rows, 8.0 if num_rows > ROWS_PER_PANEL else 9.0))


def _dot(colour: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker="o", markersize=4, linestyle="none", label=label)


def _legend_of(words: tuple[str, ...], rows: pd.DataFrame) -> str:
    word = next(word for word in words if word in set(rows["verdict"]))
    return f"{word.replace('_', ' ')} ({rows['verdict'].isin(words).sum()})"
