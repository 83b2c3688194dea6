"""What a corpus holds: coverage of its vocabulary, cells kept, lengths of sequences, bins."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

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

# Known and used, known and left out in fitting, unknown to the vocabulary, and without a name in
# its species: no ortholog.
COVERAGE_COLOURS = {
    "used": BLUE,
    "filtered out": ORANGE,
    "unknown": VERMILION,
    "unnamed": LIGHT_GREY,
}
RUN_COLOURS = (VERMILION, ORANGE, GREY)


def write_corpus_figures(folder: Path, tables: dict[str, pd.DataFrame], corpus: str) -> None:
    """Write coverage.svg, cells.svg, lengths.svg and, where runs bin, bins.svg into a folder."""
    figures = {
        "coverage": coverage_figure(tables["coverage"], corpus),
        "cells": cells_figure(tables["cells"], corpus),
        "lengths": lengths_figure(tables["lengths"], tables["truncation"], corpus),
    }
    if len(tables["bins"]):
        figures["bins"] = bins_figure(tables["bins"], corpus)
    for name, figure in figures.items():
        save_svg(figure, folder / f"{name}.svg")


def coverage_figure(coverage: pd.DataFrame, corpus: str) -> Figure:
    """A bar for each source and modality: features by what became of them."""
    names = [f"{row.source}, {row.modality}" for row in coverage.itertuples()]
    with drawing():
        figure, (ax,) = panels(1, width=6.5, height=0.9 + 0.28 * len(names))
        left = np.zeros(len(names))
        for what, colour in COVERAGE_COLOURS.items():
            numbers = coverage[what.replace(" ", "_")].to_numpy(dtype=float)
            ax.barh(range(len(names)), numbers, left=left, color=colour, label=what, height=0.7)
            left += numbers
        _name_bars(ax, names)
        ax.set(xlabel="Genes or peaks of the source")
        figure.suptitle(f"What the vocabulary of {corpus} covers")
        figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def cells_figure(cells: pd.DataFrame, corpus: str) -> Figure:
    """A bar for each source: cells by set, and those left out by reason."""
    names = list(dict.fromkeys(cells["source"]))
    kinds = list(dict.fromkeys(cells["what"]))
    kept = [name for name in ("train", "val", "test") if name in kinds]
    colours = dict(zip(kept, (BLUE, "#56B4E9", "#009E73"), strict=False))
    others = [kind for kind in kinds if kind not in kept]
    colours |= dict(zip(others, [LIGHT_GREY, GREY, ORANGE, VERMILION] * len(others), strict=False))
    with drawing():
        figure, (ax,) = panels(1, width=6.5, height=0.9 + 0.28 * len(names))
        left = np.zeros(len(names))
        for kind, colour in colours.items():
            its = cells[cells["what"] == kind].set_index("source")["cells"]
            numbers = its.reindex(names, fill_value=0).to_numpy(dtype=float)
            ax.barh(range(len(names)), numbers, left=left, color=colour, label=kind, height=0.7)
            left += numbers
        _name_bars(ax, names)
        ax.set(xlabel="Cells")
        figure.suptitle(f"Cells of {corpus}, kept and left out")
        figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def lengths_figure(lengths: pd.DataFrame, truncation: pd.DataFrame, corpus: str) -> Figure:
    """Detected features of a cell, and how many of them each run reads."""
    modalities = list(dict.fromkeys(lengths["modality"]))
    with drawing():
        figure, axes = panels(len(modalities), width=4.6, height=2.6)
        for ax, modality in zip(axes, modalities, strict=True):
            its = lengths[lengths["modality"] == modality]
            most = its["length"].max()
            edges = np.unique(np.linspace(0, most + 1, 61).astype(int))
            ax.hist(its["length"], bins=edges, weights=its["cells"], color=BLUE)
            limits = truncation[truncation["modality"] == modality]
            for number, row in enumerate(limits.itertuples()):
                ax.axvline(
                    row.most_tokens,
                    color=RUN_COLOURS[number % len(RUN_COLOURS)],
                    linestyle="--",
                    linewidth=1,
                    label=f"{row.run}: {row.truncated_share:.1%} of cells are longer",
                )
            ax.set(title=modality, xlabel="Detected features of a cell", ylabel="Cells")
            if len(limits):
                ax.legend(fontsize=8)
        figure.suptitle(f"Lengths of the cells of {corpus}")
    return figure


def bins_figure(bins: pd.DataFrame, corpus: str) -> Figure:
    """How often each bin occurs, a panel for each run that bins."""
    runs = list(dict.fromkeys(bins["run"]))
    with drawing():
        figure, axes = panels(len(runs), width=4.6, height=2.4)
        for ax, run in zip(axes, runs, strict=True):
            its = bins[bins["run"] == run]
            ax.bar(its["bin"], its["share"], color=BLUE, width=0.9)
            ax.set(title=run, xlabel="Bin", ylabel="Share of detected values")
        figure.suptitle(f"Value bins of {corpus}")
    return figure


def _name_bars(ax, names: list[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=LIGHT_GREY, linewidth=0.5)
