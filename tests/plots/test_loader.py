"""The figures of the loading experiment show every strategy, seed and way of guessing."""

import numpy as np
import pytest

from tests.evaluation.loader_results import QUALITY, results
from vcpipe.config.loader import STRATEGIES, TASKS
from vcpipe.errors import InputError
from vcpipe.evaluation.loader_summary import summarise_results
from vcpipe.plots.figures import save_svg
from vcpipe.plots.loader import (
    COLOURS,
    NAMES,
    TITLES,
    plot_comparison,
    plot_quality,
    plot_time_comparison,
    plot_training_curves,
)


@pytest.fixture
def df():
    return summarise_results(results())


def test_every_strategy_has_a_name_and_a_colour_of_its_own():
    assert list(COLOURS) == list(NAMES) == list(STRATEGIES)
    assert len(set(COLOURS.values())) == len(STRATEGIES)
    assert list(TITLES) == list(TASKS)


def test_the_comparison_has_a_panel_for_each_task_with_seeds_and_guessing(df):
    figure, axes = plot_comparison(df, title="Ours")
    assert axes.shape == (2, 2)
    assert figure.get_suptitle() == "Ours"
    for ax, task in zip(axes.ravel(), TASKS, strict=True):
        assert ax.get_title() == TITLES[task]
        points = np.concatenate([line.get_xdata() for line in ax.lines if line.get_marker() == "o"])
        expected = df.loc[(df["task"] == task) & df["seed"].notna(), "macro_f1"]
        assert sorted(points) == sorted(expected)
        styles = {line.get_linestyle(): line.get_xdata()[0] for line in ax.lines[-2:]}
        assert styles == {":": 0.05, "--": 0.02}
    labels = [label.get_text() for label in axes[0, 0].get_yticklabels()]
    assert labels == [NAMES[name] for name in QUALITY]


def test_curves_of_one_task_have_a_line_for_each_seed_and_their_mean():
    figure, ax = plot_training_curves(results(), task="cell_line")
    lines = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert len(lines) == len(QUALITY) * (3 + 1)
    assert TITLES["cell_line"] in ax.get_title()
    assert lines[0].get_ydata()[0] == 0.5
    named = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert {NAMES[name] for name in QUALITY} < named


def test_a_task_that_is_none_is_named():
    with pytest.raises(InputError, match="task is 'cells'; choose one of cell_line, drug"):
        plot_training_curves(results(), task="cells")


def test_times_show_waiting_within_the_whole(df):
    _, ax = plot_time_comparison(df)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths[::2] == pytest.approx([4.0] * len(QUALITY))
    assert widths[1::2] == pytest.approx([0.8] * len(QUALITY))
    assert "warm" in ax.get_title()


def test_quality_stands_against_speed_and_mixing(df):
    _, axes = plot_quality(df, "drug")
    assert axes[0].get_xscale() == "log"
    lines = [line for line in axes[1].lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in lines] == [4 * its for its in QUALITY.values()]


def test_a_table_without_strategies_is_refused(df):
    with pytest.raises(InputError, match="expected some of streaming"):
        plot_comparison(df[df["strategy"] == "chance"])


def test_a_figure_is_the_same_file_each_time(df, tmp_path):
    for name in ("one", "other"):
        save_svg(plot_comparison(df)[0], tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
