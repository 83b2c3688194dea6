"""The summary: means, seeded intervals, order, and words against the best baseline."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scripts import show_summary, summarise
from vcpipe.config.eval import Summary
from vcpipe.errors import InputError
from vcpipe.evaluation import summary as tables
from vcpipe.evaluation.scoring import Scores, write_scores
from vcpipe.evaluation.training_logs import read_logs

CONFIG = Summary(num_bootstrap=200)


def scores_of(model: str, kind: str = "model", **values: list[float]) -> Scores:
    """Scores of a model: scores_of("mine", mse=[0.1, 0.2])."""
    size = len(next(iter(values.values())))
    names = [f"G{i}+ctrl" for i in range(size)]
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "condition": names,
                    "subgroup": "unseen_single",
                    "num_cells": 10,
                    "metric": metric,
                    "value": value,
                }
            )
            for metric, value in values.items()
        ]
    )
    ones_PG = np.ones((size, 4), dtype=np.float32)
    layers = {"predicted": ones_PG, "measured": ones_PG}
    layers |= {"scored": ones_PG > 0, "de": ones_PG > 0}
    var = pd.DataFrame(
        {"model_control": 0.5, "scoring_control": 0.5, "train_mean": 0.5},
        index=[f"G{i}" for i in range(4)],
    )
    about = {
        "model": model,
        "kind": kind,
        "dataset": "tiny",
        "split": "unseen",
        "config_digest": "c1",
        "data_digest": "d1",
        "num_perturbations": size,
        "scoring": {"num_de_genes": 20},
        "notes": [],
    }
    profiles = ad.AnnData(obs=pd.DataFrame(index=names), var=var, layers=layers)
    return Scores(table, profiles, about)


def changed(scores: Scores, **about) -> Scores:
    return Scores(scores.per_perturbation, scores.profiles, {**scores.about, **about})


def test_the_schema_is_the_promised_one():
    found = tables.summarise([scores_of("mine", mse=[0.1, 0.3])], CONFIG)
    assert found.columns.tolist() == [
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
    row = found.iloc[0]
    assert (row["value"], row["n"], row["task"]) == (pytest.approx(0.2), 2, "perturbation")
    assert not row["higher_is_better"]
    assert not row["official"]


def test_undefined_scores_are_left_out_and_not_counted():
    found = tables.summarise([scores_of("mine", pearson=[0.2, np.nan, 0.4])], CONFIG).iloc[0]
    assert (found["value"], found["n"]) == (pytest.approx(0.3), 2)
    none = tables.summarise([scores_of("mine", pearson=[np.nan, np.nan])], CONFIG).iloc[0]
    assert np.isnan(none["value"])
    assert none["n"] == 0


def test_the_interval_holds_the_mean_and_depends_on_the_seed_alone(generator):
    value_P = generator.random(50)
    low, high = tables.bootstrap_interval(value_P, CONFIG)
    assert low < value_P.mean() < high
    assert (low, high) == tables.bootstrap_interval(value_P, CONFIG)
    assert (low, high) != tables.bootstrap_interval(value_P, Summary(num_bootstrap=200, seed=1))


def test_a_wider_confidence_has_a_wider_interval(generator):
    value_P = generator.random(50)
    low, high = tables.bootstrap_interval(value_P, CONFIG)
    wide_low, wide_high = tables.bootstrap_interval(
        value_P, Summary(num_bootstrap=200, confidence=0.99)
    )
    assert wide_low < low < high < wide_high


def test_the_interval_has_its_coverage():
    """Of 300 samples about 95 % have the true mean in their interval."""
    samples = np.random.default_rng(0).normal(size=(300, 60))
    intervals = np.array([tables.bootstrap_interval(sample_P, CONFIG) for sample_P in samples])
    covered = (intervals[:, 0] < 0) & (intervals[:, 1] > 0)
    assert 0.9 < covered.mean() < 0.98


def test_the_better_value_stands_first():
    found = tables.summarise(
        [
            scores_of("bad", mse=[0.5, 0.5], pearson=[0.1, 0.1]),
            scores_of("good", mse=[0.1, 0.1], pearson=[0.9, 0.9]),
        ],
        CONFIG,
    )
    assert found["metric"].tolist() == ["pearson", "pearson", "mse", "mse"]
    assert found["model"].tolist() == ["good", "bad", "good", "bad"]


def test_different_data_are_not_compared():
    mine, other = scores_of("mine", mse=[0.1, 0.2]), scores_of("other", mse=[0.1, 0.2])
    with pytest.raises(InputError, match="different data of tiny"):
        tables.summarise([mine, changed(other, data_digest="d2")], CONFIG)
    with pytest.raises(InputError, match="scored differently on tiny"):
        tables.summarise([mine, changed(other, scoring={"num_de_genes": 50})], CONFIG)
    with pytest.raises(InputError, match="scored twice"):
        tables.summarise([mine, mine], CONFIG)


def test_verdicts_compare_perturbation_by_perturbation_with_the_best_baseline(generator):
    hard_P = generator.random(30)
    scores = [
        scores_of("mine", mse=hard_P, pearson=hard_P),
        scores_of("weak", kind="baseline", mse=hard_P + 0.9, pearson=hard_P - 0.9),
        # Much less than the spread over perturbations, but the same in each.
        scores_of("strong", kind="baseline", mse=hard_P + 0.01, pearson=hard_P + 0.01),
    ]
    found = tables.verdicts(scores, tables.summarise(scores, CONFIG), CONFIG).set_index("metric")
    assert set(found["best_baseline"]) == {"strong"}
    assert found.loc["mse", "verdict"] == "better"
    assert found.loc["mse", "difference"] == pytest.approx(-0.01)
    assert found.loc["pearson", "verdict"] == "worse"


def test_what_a_model_lacked_stands_beside_its_verdict(generator):
    mine = scores_of("mine", mse=generator.random(9))
    mine.about["notes"] = ["predicted without a flag: A+ctrl", "3 of 4 genes"]
    scores = [mine, scores_of("mean", kind="baseline", mse=generator.random(9))]
    found = tables.verdicts(scores, tables.summarise(scores, CONFIG), CONFIG)
    assert found["notes"].tolist() == ["predicted without a flag: A+ctrl; 3 of 4 genes"]


def test_a_difference_that_may_be_chance_is_called_so(generator):
    scores = [
        scores_of("mine", mse=generator.random(30)),
        scores_of("mean", kind="baseline", mse=generator.random(30)),
    ]
    found = tables.verdicts(scores, tables.summarise(scores, CONFIG), CONFIG)
    assert found["verdict"].tolist() == ["no clear difference"]


def test_a_baseline_without_a_value_is_not_the_best():
    scores = [
        scores_of("mine", pearson=[0.5, 0.6, 0.7]),
        scores_of("flat", kind="baseline", pearson=[np.nan] * 3),
    ]
    found = tables.verdicts(scores, tables.summarise(scores, CONFIG), CONFIG).iloc[0]
    assert found["verdict"] == "not comparable"
    assert found["best_baseline"] == ""


def test_logs_are_named_by_their_run(tmp_path):
    path = tmp_path / "pretrain" / "rna" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,epoch,lr,grad_norm,train_loss,val_loss\n1,0,0.1,1,2.0,\n2,0,0.1,,,1.5\n")
    assert list(read_logs([path])) == ["pretrain/rna"]
    path.write_text("step,loss\n1,2.0\n")
    with pytest.raises(InputError, match="no column lr, train_loss, val_loss"):
        read_logs([path])


@pytest.fixture
def summarised(tmp_path, generator):
    """The folder that the script fills from two score folders and one log."""
    scores = [
        scores_of("mine", mse=generator.random(9), pearson=generator.random(9)),
        scores_of("mean", kind="baseline", mse=generator.random(9), pearson=[np.nan] * 9),
    ]
    for each in scores:
        write_scores(tmp_path / each.about["model"], each)
    log = tmp_path / "pretrain" / "rna" / "metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("step,epoch,lr,grad_norm,train_loss,val_loss\n1,0,0.1,1,2.0,\n2,0,0.1,,,1.5\n")
    out = tmp_path / "eval"
    summarise.main(
        [
            *("--scores", str(tmp_path / "mine"), str(tmp_path / "mean"), "--logs", str(log)),
            *("--out", str(out / "summary.csv"), "--verdicts", str(out / "verdicts.tsv")),
            *("--table", str(out / "summary.html"), "--losses", str(out / "loss_curves.svg")),
            *("--figures", str(out / "figures"), "--genes", str(out / "gene_matches.tsv")),
            *("--checked", str(out / "data_checks.tsv")),
            "num_bootstrap=100",
        ]
    )
    return out


def test_the_script_writes_summary_verdicts_and_figures(summarised):
    found = tables.read_summary(summarised / "summary.csv")
    assert len(found) == 4
    assert np.isnan(found.set_index(["model", "metric"]).loc[("mean", "pearson"), "value"])
    assert len(pd.read_csv(summarised / "verdicts.tsv", sep="\t")) == 2
    figures = summarised / "figures" / "tiny" / "unseen"
    assert sorted(path.stem for path in figures.iterdir()) == [
        "models",
        "perturbations",
        "predictions",
    ]
    assert (summarised / "loss_curves.svg").read_text().startswith("<?xml")
    assert "<table" in (summarised / "summary.html").read_text()
    assert pd.read_csv(summarised / "gene_matches.tsv", sep="\t").empty


def test_the_shown_summary_survives_a_pipe(summarised, capsys):
    show_summary.main([str(summarised / "summary.csv")])
    shown = capsys.readouterr().out
    assert "tiny, split unseen" in shown
    rows = {line.split()[0]: line for line in shown.splitlines() if "↑" in line or "↓" in line}
    assert "*" in rows["mse"]
    assert "–" in rows["pearson"]


def test_few_perturbations_give_no_verdict(generator):
    few = [
        scores_of("mine", mse=generator.random(4)),
        scores_of("mean", "baseline", mse=generator.random(4) + 5),
    ]
    summary = tables.summarise(few, CONFIG)
    found = tables.verdicts(few, summary, CONFIG)
    assert set(found["verdict"]) == {"too few perturbations to say"}


def test_another_table_is_no_summary(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="has no column model"):
        show_summary.main([str(tmp_path / "table.csv")])
