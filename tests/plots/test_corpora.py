"""The figures of a corpus show every source, what became of it, and what runs cut off."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from vcpipe.plots.corpora import (
    COVERAGE_COLOURS,
    bins_figure,
    cells_figure,
    coverage_figure,
    lengths_figure,
    write_corpus_figures,
)


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return {
        "coverage": pd.DataFrame(
            {
                "source": ["cortex", "cortex", "screen"],
                "modality": ["rna", "atac", "rna"],
                "used": [1500, 18000, 900],
                "filtered_out": [0, 7000, 80],
                "unknown": [90, 0, 20],
                "unnamed": [10, 0, 0],
            }
        ),
        "cells": pd.DataFrame(
            {
                "source": ["cortex", "cortex", "cortex", "screen", "screen"],
                "what": ["train", "val", "min_peaks", "train", "no_set"],
                "cells": [600, 100, 50, 300, 200],
            }
        ),
        "lengths": pd.DataFrame(
            {
                "modality": ["rna"] * 3 + ["atac"] * 2,
                "length": [10, 200, 400, 5, 900],
                "cells": [5, 70, 25, 40, 60],
            }
        ),
        "truncation": pd.DataFrame(
            {
                "run": ["small", "large", "paired"],
                "modality": ["rna", "rna", "atac"],
                "most_tokens": [255, 1023, 500],
                "truncated_share": [0.25, 0.0, 0.6],
            }
        ),
        "bins": pd.DataFrame(
            {
                "run": ["small"] * 3 + ["large"] * 3,
                "bin": [0, 1, 2] * 2,
                "share": [0, 0.75, 0.25, 0, 0.5, 0.5],
            }
        ),
    }


def widths(ax, colour: str) -> list[float]:
    """Lengths of the horizontal bars of one colour, from top to bottom."""
    its = [bar for bar in ax.patches if np.allclose(bar.get_facecolor(), to_rgba(colour))]
    return [bar.get_width() for bar in sorted(its, key=lambda bar: bar.get_y())]


def labels(ax) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_figures_are_the_same_bytes_each_time(tables, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_corpus_figures(tmp_path / name, tables, "tiny")
    files = sorted((tmp_path / "first").iterdir())
    assert [file.stem for file in files] == ["bins", "cells", "coverage", "lengths"]
    for file in files:
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_without_runs_that_bin_there_is_no_figure_of_bins(tables, tmp_path):
    tables["bins"] = tables["bins"][:0]
    tables["truncation"] = tables["truncation"][:0]
    write_corpus_figures(tmp_path, tables, "tiny")
    assert {file.stem for file in tmp_path.iterdir()} == {"cells", "coverage", "lengths"}


def test_every_source_and_modality_has_a_bar_of_what_became_of_its_features(tables):
    figure = coverage_figure(tables["coverage"], "tiny")
    (ax,) = figure.axes
    assert labels(ax) == ["cortex, rna", "cortex, atac", "screen, rna"]
    for what, colour in COVERAGE_COLOURS.items():
        assert widths(ax, colour) == tables["coverage"][what.replace(" ", "_")].tolist()
    # Parts follow each other, so that a bar is as long as its source.
    ends = {bar.get_y(): bar.get_x() + bar.get_width() for bar in ax.patches}
    assert sorted(ends.values()) == [1000, 1600, 25000]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["used", "filtered out", "unknown", "unnamed"]


def test_cells_are_shown_by_set_and_by_the_reason_that_left_them_out(tables):
    figure = cells_figure(tables["cells"], "tiny")
    (ax,) = figure.axes
    assert labels(ax) == ["cortex", "screen"]
    ends: dict[float, float] = {}
    for bar in ax.patches:
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0), bar.get_x() + bar.get_width())
    assert [ends[y] for y in sorted(ends)] == [750, 500]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["train", "val", "min_peaks", "no_set"]
    colours = {tuple(bar.get_facecolor()) for bar in ax.patches}
    assert len(colours) == 4


def test_lengths_show_what_each_run_has_room_for(tables):
    rna, atac = lengths_figure(tables["lengths"], tables["truncation"], "tiny").axes[:2]
    assert (rna.get_title(), atac.get_title()) == ("rna", "atac")
    assert [line.get_xdata()[0] for line in rna.lines] == [255, 1023]
    assert [line.get_xdata()[0] for line in atac.lines] == [500]
    assert [text.get_text() for text in rna.get_legend().get_texts()] == [
        "small: 25.0% of cells are longer",
        "large: 0.0% of cells are longer",
    ]
    assert sum(bar.get_height() for bar in rna.patches) == 100


def test_a_corpus_whose_cells_have_no_feature_has_a_figure(tables):
    lengths = pd.DataFrame({"modality": ["rna"], "length": [0], "cells": [7]})
    (ax, *_) = lengths_figure(lengths, tables["truncation"], "tiny").axes
    assert sum(bar.get_height() for bar in ax.patches) == 7


def test_every_run_that_bins_has_a_panel(tables):
    panels = [ax for ax in bins_figure(tables["bins"], "tiny").axes if ax.get_visible()]
    assert [ax.get_title() for ax in panels] == ["small", "large"]
    assert [bar.get_height() for bar in panels[0].patches] == [0, 0.75, 0.25]
