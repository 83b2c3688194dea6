"""The checks find what is known of a screen, and their numbers are those of the dense matrix."""

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats

from scripts import check_dataset, simulate_screen
from vcpipe.config.checks import Checked
from vcpipe.config.documentation import rows
from vcpipe.config.gears import Conversion
from vcpipe.config.pipeline import Pipeline
from vcpipe.data.check_summary import ADVICE
from vcpipe.data.checks import check_screen, joined, read_summaries
from vcpipe.data.gears import convert
from vcpipe.data.group_sums import add_cells, empty_sums
from vcpipe.data.measurements import compare, measure, p_values, rms_change
from vcpipe.data.screen import Screen, open_screen
from vcpipe.errors import InputError

JURKAT = Path(__file__).parents[3] / "shared" / "data" / "datlinger_jurkat_cropseq_counts.h5ad"
GENES = [f"G{i:02d}" for i in range(60)]
FALLS, STAYS, FAINT, RISES = "G10", "G20", "G30", "G40"
# Label -> number of cells; ABSENT is not among the genes.
CELLS = {
    "non-targeting": 200,
    FALLS: 60,
    STAYS: 60,
    FAINT: 60,
    RISES: 60,
    f"{FALLS}+{STAYS}": 60,
    "ABSENT": 60,
    "G50": 8,
}
DEEP, SHALLOW = ["cell0030", "cell0230"], ["cell0031", "cell0300"]


@pytest.fixture(scope="module")
def raw() -> ad.AnnData:
    """Known changes of targets, known outliers, and a batch b2 without controls."""
    generator = np.random.default_rng(5)
    labels = np.repeat(list(CELLS), list(CELLS.values()))
    cells = np.array([f"cell{i:04d}" for i in range(len(labels))])
    mean_CG = np.tile(generator.gamma(4.0, 2.0, len(GENES)), (len(labels), 1))
    mean_CG[:, [GENES.index(gene) for gene in (FALLS, STAYS, RISES)]] = 8.0
    mean_CG[:, GENES.index(FAINT)] = 0.02
    mean_CG[np.char.startswith(labels, FALLS), GENES.index(FALLS)] *= 0.2
    mean_CG[labels == RISES, GENES.index(RISES)] *= 3
    mean_CG[np.isin(cells, DEEP)] *= 20
    mean_CG[np.isin(cells, SHALLOW)] /= 20
    batch = np.where(np.arange(len(labels)) % 2, "b1", "b0")
    batch[(labels != "non-targeting") & (np.arange(len(labels)) % 3 == 0)] = "b2"
    batch[labels == "G50"] = "b2"
    obs = pd.DataFrame({"target_gene": labels, "batch": batch}, index=cells).astype("category")
    counts = sp.csr_matrix(generator.poisson(mean_CG).astype(np.float32))
    return ad.AnnData(counts, obs, pd.DataFrame(index=GENES))


def converted(raw: ad.AnnData, folder, **dataset) -> Screen:
    raw.write_h5ad(folder / "raw.h5ad")
    dataset = {"unknown_targets": "keep"} | dataset
    config = Conversion.model_validate({"dataset": dataset})
    convert(folder / "raw.h5ad", "known", config, folder / "screen.h5ad")
    return open_screen(folder / "screen.h5ad")


@pytest.fixture(scope="module")
def known(raw, tmp_path_factory) -> Screen:
    return converted(raw, tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="module")
def tables(known) -> dict[str, pd.DataFrame]:
    return check_screen(known, Checked())


@pytest.fixture(scope="module")
def targets(tables) -> pd.DataFrame:
    return tables["targets"].set_index(["condition", "target"])


@pytest.fixture(scope="module")
def perturbations(tables) -> pd.DataFrame:
    return tables["perturbations"].set_index("condition")


def dense(screen: Screen) -> np.ndarray:
    return screen.counts(slice(None)).toarray().astype(np.float64)


def flags(table: pd.DataFrame) -> dict[str, str]:
    return {name: its for name, its in table["flags"].items() if its}


def test_each_target_gets_the_verdict_that_its_cells_deserve(targets):
    assert targets["verdict"].to_dict() == {
        (f"{FALLS}+ctrl", FALLS): "knocked_down",
        (f"{FALLS}+{STAYS}", FALLS): "knocked_down",
        (f"{FALLS}+{STAYS}", STAYS): "weak_knockdown",
        (f"{STAYS}+ctrl", STAYS): "weak_knockdown",
        (f"{FAINT}+ctrl", FAINT): "target_too_low",
        (f"{RISES}+ctrl", RISES): "weak_knockdown",
        ("ABSENT+ctrl", "ABSENT"): "target_not_measured",
        ("G50+ctrl", "G50"): "weak_knockdown",
    }


def test_the_measured_knockdown_is_the_true_one_within_its_error(targets):
    falls = targets.loc[f"{FALLS}+ctrl", FALLS]
    assert falls["knockdown"] == pytest.approx(0.8, abs=3 * falls["standard_error"])
    stays = targets.loc[f"{STAYS}+ctrl", STAYS]
    assert stays["knockdown"] == pytest.approx(0.0, abs=3 * stays["standard_error"])
    assert falls["standard_error"] < 0.1


def test_the_knocked_down_target_falls_more_than_any_other_gene(targets):
    assert targets.loc[f"{FALLS}+ctrl", FALLS]["rank"] == 1


def test_a_target_that_was_not_measured_has_a_word_and_no_number(tables):
    row = tables["targets"].set_index("target").loc["ABSENT"]
    numbers = row.drop(["condition", "cell_type", "verdict"])
    assert row["verdict"] == "target_not_measured"
    assert numbers.isna().all()


def test_target_numbers_equal_those_of_the_dense_matrix(known, targets):
    counts_CG = dense(known)
    umi_C = counts_CG.sum(axis=1)
    scaled_C = counts_CG[:, GENES.index(FALLS)] / umi_C * 1e4
    log_CG = np.log1p(counts_CG / umi_C[:, None] * 1e4)
    chosen, control = known.condition == f"{FALLS}+ctrl", known.condition == "ctrl"
    with_, without = scaled_C[chosen], scaled_C[control]
    fold = with_.mean() / without.mean()
    error = np.hypot(stats.sem(with_), fold * stats.sem(without)) / without.mean()
    row = targets.loc[f"{FALLS}+ctrl", FALLS]
    assert row["control_expression"] == pytest.approx(without.mean(), rel=1e-6)
    assert row["perturbed_expression"] == pytest.approx(with_.mean(), rel=1e-6)
    assert row["expected_counts"] == pytest.approx(without.mean() / 1e4 * umi_C[chosen].sum())
    assert row["knockdown"] == pytest.approx(1 - fold, rel=1e-6)
    assert row["standard_error"] == pytest.approx(error, rel=1e-6)
    test = stats.ttest_ind(log_CG[chosen], log_CG[control], equal_var=False, alternative="less")
    column = GENES.index(FALLS)
    assert row["t"] == pytest.approx(test.statistic[column], rel=1e-4)
    assert row["p_value"] == pytest.approx(test.pvalue[column], rel=1e-3)
    assert row["rank"] == (test.statistic < test.statistic[column]).sum() + 1


def test_false_discovery_rates_are_over_the_targets_that_can_be_judged(tables):
    table = tables["targets"]
    judged = ~table["verdict"].isin(["target_not_measured", "target_too_low"])
    expected = stats.false_discovery_control(table.loc[judged, "p_value"].astype(float))
    np.testing.assert_allclose(table.loc[judged, "fdr"].astype(float), expected)
    assert table.loc[~judged, "fdr"].isna().all()


def test_zero_counts_in_the_perturbed_cells_are_not_without_doubt(raw, tmp_path):
    """A target of 15 expected counts that has none: gone, but by how much is not known exactly."""
    raw = raw.copy()
    matrix = raw.X.tolil()
    cells = (raw.obs["target_gene"] == FALLS).to_numpy()
    matrix[cells, GENES.index(FALLS)] = 0
    raw.X = matrix.tocsr()
    table = check_screen(converted(raw, tmp_path), Checked())["targets"]
    row = table.set_index("condition").loc[f"{FALLS}+ctrl"]
    assert row["knockdown"] == 1
    assert row["standard_error"] == pytest.approx(1 / row["expected_counts"], rel=0.01)


def test_changes_of_the_other_genes_equal_those_of_the_dense_matrix(known, perturbations):
    counts_CG = dense(known)
    log_CG = np.log1p(counts_CG / counts_CG.sum(axis=1, keepdims=True) * 1e4)
    with_, without = log_CG[known.condition == f"{FALLS}+ctrl"], log_CG[known.condition == "ctrl"]
    difference_G = with_.mean(axis=0) - without.mean(axis=0)
    noise_G = stats.sem(with_) ** 2 + stats.sem(without) ** 2
    p_G = stats.ttest_ind(with_, without, equal_var=False).pvalue
    others = np.array(GENES) != FALLS
    row = perturbations.loc[f"{FALLS}+ctrl"]
    assert row["num_de_genes"] == (stats.false_discovery_control(p_G[others]) <= 0.05).sum()
    assert row["rms_change"] == pytest.approx(np.sqrt((difference_G**2 - noise_G).mean()), rel=1e-4)


def test_noise_alone_is_no_change(generator):
    """Two halves of the same cells differ by noise, which the change leaves out."""
    sums = empty_sums(2, 2000)
    add_cells(sums, sp.csr_matrix(generator.normal(5, 1, (60, 2000))), np.arange(60) % 2)
    compared = compare(sums, 0, 1)
    assert np.sqrt((compared.difference_G**2).mean()) == pytest.approx(0.26, abs=0.02)
    assert rms_change(compared) < 0.05


def test_a_gene_without_any_count_has_no_say(known):
    measured = measure(known)
    for effect in ("down", "up", "none"):
        p_G = p_values(compare(measured.values, 1, 0), effect)
        assert ((p_G >= 0) & (p_G <= 1)).all()


def test_depth_and_cells_are_those_of_the_dense_matrix(known, perturbations):
    counts_CG = dense(known)
    for condition, row in perturbations.iterrows():
        cells = counts_CG[known.condition == condition]
        assert row["num_cells"] == len(cells)
        low, middle, high = np.percentile(cells.sum(axis=1), [25, 50, 75])
        assert (row["umi_q25"], row["median_umi"], row["umi_q75"]) == (low, middle, high)
        assert row["median_genes"] == np.median((cells > 0).sum(axis=1))


def test_what_is_measured_does_not_depend_on_where_chunks_begin(known):
    whole, pieces = measure(known, size=10_000), measure(known, size=7)
    np.testing.assert_array_equal(whole.values.sums_KG, pieces.values.sums_KG)
    np.testing.assert_array_equal(whole.expression.squares_KG, pieces.expression.squares_KG)
    np.testing.assert_array_equal(whole.umi_C, pieces.umi_C)


def test_cells_of_unusual_depth_are_listed_with_their_reason(tables):
    reasons = tables["outliers"].set_index("cell")["reason"]
    assert set(reasons.index) == {"cell0030", "cell0230", "cell0031", "cell0300"}
    assert reasons["cell0030"].startswith("high_umi")
    assert "low_umi" in reasons["cell0300"]
    depth = tables["depth"].set_index("measure")
    assert depth.loc["umi", "num_above"] == 2
    assert depth.loc["umi", "num_below"] == 2


def test_limits_are_median_absolute_deviations_of_the_logarithm(known, tables):
    log_C = np.log1p(dense(known).sum(axis=1))
    reach = 5 * stats.median_abs_deviation(log_C)
    row = tables["depth"].set_index("measure").loc["umi"]
    assert row["low"] == pytest.approx(np.expm1(np.median(log_C) - reach))
    assert row["high"] == pytest.approx(np.expm1(np.median(log_C) + reach))


def test_without_spread_nobody_is_outside(tmp_path):
    labels = np.repeat(["non-targeting", "G00"], 20)
    obs = pd.DataFrame({"target_gene": labels, "batch": "b"}, index=[f"c{i}" for i in range(40)])
    matrix = np.tile(np.arange(1.0, 7.0, dtype=np.float32), (40, 1))
    matrix[0] *= 3
    raw = ad.AnnData(sp.csr_matrix(matrix), obs, pd.DataFrame(index=GENES[:6]))
    tables = check_screen(converted(raw, tmp_path), Checked())
    assert tables["outliers"].empty
    assert (tables["depth"]["mad_of_log1p"] == 0).all()


def test_flags_of_perturbations_are_words(perturbations):
    assert flags(perturbations) == {
        f"{STAYS}+ctrl": "weak_knockdown",
        f"{RISES}+ctrl": "weak_knockdown",
        f"{FALLS}+{STAYS}": "weak_knockdown",
        f"{FAINT}+ctrl": "target_too_low",
        "ABSENT+ctrl": "target_not_measured",
        "G50+ctrl": "few_cells,single_batch,never_with_controls,weak_knockdown",
    }
    assert perturbations.loc[f"{FALLS}+{STAYS}", "target_verdict"] == "knocked_down+weak_knockdown"


def test_a_batch_without_controls_is_flagged(known, tables):
    batches = tables["batches"].set_index("batch")
    assert flags(batches) == {"b2": "no_controls"}
    assert batches.loc["b2", "num_controls"] == 0
    share = (known.condition[known.batch == "b0"] == "ctrl").mean()
    assert batches.loc["b0", "control_share"] == pytest.approx(share)


def test_a_batch_with_few_controls_or_only_controls_is_flagged(raw, tmp_path):
    raw = raw.copy()
    labels, batch = raw.obs["target_gene"].to_numpy(), np.full(raw.n_obs, "usual", dtype=object)
    batch[np.flatnonzero(labels == "non-targeting")[:40]] = "only"
    batch[np.flatnonzero(labels == FALLS)] = "few"
    batch[np.flatnonzero(labels == "non-targeting")[50:52]] = "few"
    raw.obs["batch"] = batch
    batches = check_screen(converted(raw, tmp_path), Checked())["batches"]
    assert flags(batches.set_index("batch")) == {"only": "only_controls", "few": "few_controls"}


def test_a_shallow_perturbation_and_one_with_many_outliers_are_flagged(raw, tmp_path):
    raw = raw.copy()
    labels = raw.obs["target_gene"].to_numpy()
    scale = np.ones(raw.n_obs)
    scale[labels == STAYS] = 0.3
    scale[np.flatnonzero(labels == RISES)[:10]] = 8
    raw.X = sp.csr_matrix(sp.diags_array(scale) @ raw.X).rint().astype(np.float32)
    raw.X.eliminate_zeros()
    table = check_screen(converted(raw, tmp_path), Checked())["perturbations"]
    its = table.set_index("condition")["flags"].str.split(",")
    assert "low_depth" in its[f"{STAYS}+ctrl"]
    assert "many_outliers" in its[f"{RISES}+ctrl"]


def test_an_activation_screen_expects_targets_to_rise(known):
    tables = check_screen(known, Checked(effect="up"))
    verdicts = tables["targets"].set_index("condition")["verdict"]
    assert verdicts[f"{RISES}+ctrl"] == "activated"
    assert verdicts[f"{STAYS}+ctrl"] == "weak_activation"
    assert verdicts["ABSENT+ctrl"] == "target_not_measured"
    assert tables["targets"].set_index("condition").loc[f"{RISES}+ctrl", "rank"] == 1
    keys = set(tables["summary"]["key"])
    assert "perturbations.weak_activation" in keys
    assert "perturbations.weak_knockdown" not in keys


def test_without_an_expected_effect_nothing_is_judged(known):
    verdicts = check_screen(known, Checked(effect="none"))["targets"]["verdict"]
    assert set(verdicts) == {"not_judged", "target_not_measured"}


def test_a_screen_without_any_measured_target_is_checked_all_the_same(raw, tmp_path):
    raw = raw[raw.obs["target_gene"].isin(["non-targeting", "ABSENT"])].copy()
    # Without a measured target nothing tells which column holds them.
    named = {"perturbation_key": "target_gene", "control_label": "non-targeting"}
    for effect in ("down", "none"):
        tables = check_screen(converted(raw, tmp_path, **named), Checked(effect=effect))
        assert tables["targets"]["verdict"].tolist() == ["target_not_measured"]
        values = tables["summary"].set_index("key")["value"]
        assert values["num_judged_targets"] == "0 of 1"
        assert values["median_fold_change_of_targets"] == "unknown"


def test_thresholds_decide_what_is_flagged(known):
    strict = {"min_cells": 100, "min_knockdown": 0.95, "max_fdr": 1e-300, "min_expected_counts": 1}
    table = check_screen(known, Checked(thresholds=strict))["perturbations"].set_index("condition")
    assert table.loc[f"{FALLS}+ctrl", "flags"] == "few_cells,weak_knockdown"
    unclear = check_screen(known, Checked(thresholds={"max_fdr": 1e-300}))["targets"]
    assert "unclear_knockdown" in set(unclear["verdict"])


def test_each_cell_type_is_compared_with_its_own_controls(raw, tmp_path):
    raw = raw.copy()
    raw.obs["kind"] = np.where(np.arange(raw.n_obs) % 5 < 2, "T", "B")
    screen = converted(raw, tmp_path, cell_type_key="kind")
    tables = check_screen(screen, Checked())
    falls = tables["targets"]["condition"] == f"{FALLS}+ctrl"
    rows = tables["targets"][falls].set_index("cell_type")
    counts_CG = dense(screen)
    scaled_C = counts_CG[:, GENES.index(FALLS)] / counts_CG.sum(axis=1) * 1e4
    for kind in "TB":
        control = (screen.condition == "ctrl") & (screen.cell_type == kind)
        assert rows.loc[kind, "control_expression"] == pytest.approx(scaled_C[control].mean())
    weak = tables["summary"].set_index("key").loc["perturbations.weak_knockdown", "advice"]
    assert f"{STAYS}+ctrl in B" in weak


def test_the_summary_says_who_is_flagged_and_what_to_do(tables):
    summary = tables["summary"].set_index("key")
    assert summary.loc["num_cells", "value"] == 568
    assert summary.loc["num_controls", "flag"] == "ok"
    few = summary.loc["perturbations.few_cells"]
    assert (few["value"], few["flag"]) == (1, "few_cells")
    assert few["advice"] == (
        "1 of 7 perturbations have fewer than 30 cells, so their means are noisy: G50+ctrl. Read "
        "their scores with care, or drop them: datasets.known.small_perturbations: drop, "
        "min_cells: 30."
    )
    assert summary.loc["perturbations.low_depth", "flag"] == "ok"
    assert summary.loc["perturbations.low_depth", "advice"] == ""


def test_cells_left_out_by_their_label_are_counted_with_those_that_policies_drop(raw, tmp_path):
    settings = {"drop_labels": [FAINT], "unknown_targets": "drop", "min_cells": 9}
    screen = converted(raw, tmp_path, small_perturbations="drop", **settings)
    table = check_screen(screen, Checked())["summary"].set_index("key")
    assert table.loc["dropped_cells", "flag"] == "dropped"
    assert f"ABSENT+ctrl ({CELLS['ABSENT']})" in table.loc["dropped_cells", "advice"]
    summary = table["value"]
    assert summary["dropped_cells"] == CELLS[FAINT] + CELLS["ABSENT"] + CELLS["G50"]
    assert summary["num_cells"] + summary["dropped_cells"] == len(raw)


def test_every_setting_that_advice_names_exists():
    keys = {row["key"] for row in rows(Pipeline)}
    thresholds = Checked().thresholds.model_dump()
    texts = [text for flags in ADVICE.values() for pair in flags.values() for text in pair]
    named = {
        word
        for text in texts
        for word in re.findall(
            r"[\w<>]+(?:[._][\w<>]+)+", text.format(**thresholds, dataset="<name>")
        )
        if word[0].isalpha() and not word.endswith(".tsv")
    }
    # After the first one of a section, others stand by their last name.
    unknown = named - keys - {key.split(".")[-1] for key in keys}
    assert not unknown
    assert {"gears.pairing.within", "datasets.<name>.small_perturbations", "min_cells"} <= named


def test_few_controls_are_the_first_thing_said(known):
    summary = check_screen(known, Checked(thresholds={"min_cells": 500}))["summary"]
    row = summary.set_index("key").loc["num_controls"]
    assert row["flag"] == "few_cells"
    assert "compared with the controls" in row["advice"]


def test_marks_are_joined_to_words():
    marks = {"one": np.array([True, False, True]), "two": np.array([True, False, False])}
    assert joined(marks) == ["one,two", "", "one"]


def test_the_script_writes_every_table_and_figure_and_prints_the_advice(known, tmp_path, capsys):
    out = tmp_path / "checks"
    check_dataset.main(["--cells", str(known.path), "--out", str(out), "thresholds.min_cells=9"])
    assert {path.name for path in out.iterdir()} == {
        *("summary.tsv", "perturbations.tsv", "targets.tsv", "batches.tsv"),
        *("depth.tsv", "outliers.tsv"),
        *("perturbations.svg", "knockdown.svg", "batches.svg"),
    }
    assert "few_cells: 1 of 7 perturbations have fewer than 9 cells" in capsys.readouterr().out
    both = read_summaries([out, out])
    assert len(both) == 2 * len(read_summaries([out]))
    assert set(both["dataset"]) == {"known"}


def test_a_folder_without_a_summary_is_named(tmp_path):
    with pytest.raises(InputError, match=r"summary\.tsv does not exist; expected the summary"):
        read_summaries([tmp_path])


def test_knockdowns_of_a_simulated_screen_are_the_true_ones(tmp_path):
    paths = {name: tmp_path / f"{name}.h5ad" for name in ("out", "truth", "network")}
    options = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    simulate_screen.main(
        [*options, "num_cells=1500", "num_genes=300", "num_targets=12", "num_programs=4"]
    )
    convert(paths["out"], "demo", Conversion(), tmp_path / "screen.h5ad")
    tables = check_screen(open_screen(tmp_path / "screen.h5ad"), Checked())
    truth = ad.read_h5ad(paths["truth"]).obs["knockdown"]
    targets = tables["targets"].set_index("target")
    error = targets["knockdown"] - truth
    assert (error.abs() < 4 * targets["standard_error"]).all()
    assert error.abs().mean() < 0.05
    assert (targets["verdict"] == "knocked_down").all()
    assert not (tables["perturbations"]["flags"] != "").any()


@pytest.mark.skipif(not JURKAT.exists(), reason="needs ../shared/data")
def test_jurkat_has_six_measured_targets_and_controls_in_wells_of_their_own(tmp_path):
    config = Conversion.model_validate({"dataset": {"unknown_targets": "keep"}})
    convert(JURKAT, "jurkat", config, tmp_path / "screen.h5ad")
    tables = check_screen(open_screen(tmp_path / "screen.h5ad"), Checked())
    targets = tables["targets"].set_index("target")
    measured = targets.index[targets["verdict"] != "target_not_measured"]
    assert set(measured) == {"EGR1", "EGR3", "JUN", "JUND", "NR4A1", "RELA"}
    # 59 UMI a cell: of most targets not one count is expected.
    assert (targets.loc[["EGR1", "EGR3", "RELA"], "verdict"] == "target_too_low").all()
    batches = tables["batches"]
    assert set(batches["flags"].str.split(",").str[0]) == {"no_controls", "only_controls"}
    perturbed = tables["perturbations"].iloc[1:]
    assert perturbed["flags"].str.contains("never_with_controls").all()
