"""Runs become one table, if they are comparable; means come with intervals over seeds."""

import numpy as np
import pytest
from scipy import stats

from tests.evaluation.loader_results import QUALITY, result, results, settings_of
from vcpipe.config.loader import TASKS, LoaderData, LoaderTraining
from vcpipe.errors import InputError
from vcpipe.evaluation.loader_summary import (
    SAME,
    mean_interval,
    over_seeds,
    read_results,
    summarise_results,
    summary_columns,
    write_result,
)


def test_there_is_a_row_for_each_run_and_task_and_for_guessing():
    summary = summarise_results(results())
    assert list(summary) == summary_columns()
    assert len(summary) == (len(QUALITY) * 3 + 2) * len(TASKS)
    chance = summary[summary["strategy"] == "chance"]
    assert set(chance["task"]) == set(TASKS)
    assert chance["seed"].isna().all()
    assert chance["cells_per_second"].isna().all()
    assert (chance["macro_f1"] == 0.05).all()


def test_whole_numbers_stay_whole(tmp_path):
    path = tmp_path / "summary.csv"
    summarise_results(results()).to_csv(path, index=False)
    first = path.read_text().splitlines()[1].split(",")
    assert first[:5] == ["streaming", "h5ad", "", "4", "0"]


def test_written_runs_are_read_as_they_were_by_strategy_and_seed(tmp_path):
    for strategy in reversed(QUALITY):
        (tmp_path / strategy).mkdir()
        for seed in (1, 0):
            write_result(tmp_path / strategy / f"seed_{seed}", result(strategy, seed))
    found = read_results([tmp_path / strategy for strategy in reversed(QUALITY)])
    named = [(each.about["strategy"], each.about["seed"]) for each in found]
    assert named == [(strategy, seed) for strategy in QUALITY for seed in (0, 1)]
    assert found[0].about == {"format": 1, **result("streaming", 0).about}
    assert found[0].curves.equals(result("streaming", 0).curves)
    assert found[0].classes["class"].tolist() == ["NA"]


def test_a_folder_without_runs_is_named(tmp_path):
    (tmp_path / "streaming").mkdir()
    with pytest.raises(InputError, match=r"streaming holds no run \(seed_0, ...\)"):
        read_results([tmp_path / "streaming"])
    with pytest.raises(InputError, match="expected a folder of loader_experiment"):
        read_results([tmp_path / "nowhere"])


@pytest.mark.parametrize("key", SAME)
def test_runs_that_differ_in_more_than_loading_are_not_compared(key):
    mixed = [*results(), result("streaming", 7, **{key: "other"})]
    with pytest.raises(InputError, match=f"streaming, seed 7 has {key} 'other' and streaming, "):
        summarise_results(mixed)


TRAINING = [key for key in LoaderTraining.model_fields if key != "seeds"]
SOURCES = ("h5ad_dir", "label_dir", "simulate")
DATA = [key for key in LoaderData.model_fields if key not in SOURCES]


@pytest.mark.parametrize(
    ("section", "key"),
    [*(("training", key) for key in TRAINING), *(("data", key) for key in DATA)],
)
def test_runs_with_other_settings_are_not_compared(section, key):
    config = settings_of()
    other = {**config, section: {**config[section], key: "other"}}
    mixed = [*results(), result("streaming", 7, config=other)]
    with pytest.raises(InputError, match=rf"streaming, seed 7 has {section}\.{key} 'other'"):
        summarise_results(mixed)


def test_a_cache_that_is_too_small_for_the_plates_may_hold_the_store():
    assert len(summarise_results([*results(), result("streaming", 7, cache="partly warm")]))


def test_the_same_run_twice_is_refused():
    with pytest.raises(InputError, match="streaming, seed 0 is there twice"):
        summarise_results([*results(), result("streaming", 0)])


def test_means_over_seeds_have_a_students_interval():
    table = over_seeds(summarise_results(results())).set_index(["strategy", "task"])
    its = table.loc["random_sampling", "drug"]
    values = np.array([0.6, 0.61, 0.62])
    assert its["num_seeds"] == 3
    assert its["macro_f1"] == pytest.approx(0.61)
    assert its["macro_f1_sd"] == pytest.approx(0.01)
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert its["macro_f1_ci_low"] == pytest.approx(low)
    assert its["macro_f1_ci_high"] == pytest.approx(high)
    assert table.loc[("majority", "drug"), "num_seeds"] == 0


def test_one_seed_has_no_interval():
    assert np.isnan(mean_interval(np.array([0.5]))).all()
    table = over_seeds(summarise_results(results(num_seeds=1)))
    assert table["macro_f1_sd"].isna().all()
