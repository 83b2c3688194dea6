"""What reruns, and what does not: measured by dry runs on a finished workflow."""

import os
import time

import pytest

AFTER_FINETUNING = {
    "finetune_perturbation": 1,
    "predict_perturbations": 1,
    "score_perturbations": 1,
    "summarise": 1,
}
AFTER_PREPARING = {"prepare_cells": 1, "check_corpus": 1, "pretrain": 1, **AFTER_FINETUNING}


def test_a_finished_workflow_has_nothing_to_do(finished):
    assert finished.planned() == {}


def test_what_changes_no_result_reruns_nothing(edited):
    for file, old, new in (
        ("workflow/vcpipe/training/loop.py", "def train(", "# a comment\ndef train("),
        ("workflow/vcpipe/data/binning.py", '"""Values -> bins', '"""Bins'),
        ("scripts/pretrain.py", '"""Pretrain an encoder', '"""Train an encoder'),
        ("workflow/vcpipe/config/eval.py", 'description="ridge penalty"', 'description="penalty"'),
        ("profiles/demo/config.yaml", "cores: 2", "cores: 1"),
        ("profiles/demo/config.yaml", "pretrain: {gpu: 0}", "pretrain: {gpu: 2}"),
    ):
        edited.edit(file, old, new)
    assert edited.planned() == {}


def test_another_configuration_is_planned_although_the_summary_is_there(edited):
    """A user's own dataset, after the demo: the finished summary of the demo is not theirs."""
    config = edited.folder / "tests/workflow/config.yaml"
    config.write_text(config.read_text().replace("tiny", "mine"))
    jobs = edited.planned()
    assert jobs["simulate_screen"] == jobs["convert_to_gears"] == jobs["finetune_perturbation"] == 1
    assert jobs["predict_perturbations"] == 4


def test_a_wrong_path_is_an_error_although_the_summary_is_there(edited):
    config = edited.folder / "tests/workflow/config.yaml"
    text = config.read_text()
    start, end = text.index("    simulate:"), text.index("splits:")
    config.write_text(text[:start] + "    path: nowhere.h5ad\n" + text[end:])
    done = edited.run("results/eval/summary.csv", "-n", check=False)
    assert done.returncode != 0
    assert "datasets.tiny.path is 'nowhere.h5ad'" in done.stdout + done.stderr


def test_a_touch_reruns_nothing(finished):
    later = time.time() + 100
    for path in (
        *(finished.folder / "workflow").rglob("*.py"),
        finished.folder / "results/simulate_screen/tiny/screen.h5ad",
        finished.folder / "results/convert_to_gears/tiny/perturb_processed.h5ad",
    ):
        os.utime(path, (later, later))
    assert finished.planned() == {}


def test_an_edited_library_function_reruns_the_rules_that_import_it_and_what_follows(edited):
    edited.edit("workflow/vcpipe/data/token_batches.py", "keys ^= ", "keys = keys ^ ")
    assert edited.planned() == {"pretrain": 1, **AFTER_FINETUNING}


def test_an_edit_of_the_store_does_not_refit(edited):
    edited.edit("workflow/vcpipe/data/cell_store/buckets.py", "np.cumsum(", "1 * np.cumsum(")
    assert edited.planned() == AFTER_PREPARING


def test_an_edit_of_fitting_keeps_the_vocabulary(edited):
    edited.edit("workflow/vcpipe/data/variance_sums.py", "import numpy", "X = 1\nimport numpy")
    assert edited.planned() == {"fit_preprocessing": 1, **AFTER_PREPARING}


def test_an_edit_of_finetuning_does_not_rerun_pretraining(edited):
    edited.edit(
        "workflow/vcpipe/data/perturbation_batches.py", "np.sort(order", "1 * np.sort(order"
    )
    # Predicting is one program for models and baselines, and it imports what was edited.
    everything_after = {"predict_perturbations": 4, "score_perturbations": 4}
    assert edited.planned() == AFTER_FINETUNING | everything_after


def test_an_edited_metric_reruns_the_scores_and_the_summary(edited):
    edited.edit(
        "workflow/vcpipe/evaluation/metrics.py", "import numpy as np", "import numpy as np\nX = 1"
    )
    assert edited.planned() == {"score_perturbations": 4, "summarise": 1}


@pytest.mark.parametrize(
    ("assignment", "jobs"),
    [
        ("eval.summary.seed=5", {"summarise": 1}),
        ("checks.min_cells=20", {"check_dataset": 1, "summarise": 1}),
        ("datasets.tiny.effect=none", {"check_dataset": 1, "summarise": 1}),
        ("finetune.tiny_model.optimizer.lr=5e-5", AFTER_FINETUNING),
        (
            "eval.baselines.ridge_pca.penalty=0.2",
            {
                "fit_baseline": 1,
                "predict_perturbations": 1,
                "score_perturbations": 1,
                "summarise": 1,
            },
        ),
        (
            "finetune.tiny_model.perturbation.gene_aliases=false",
            {"match_genes": 1, **AFTER_FINETUNING},
        ),
        ("pretrain.tiny_masked.training.seed=7", {"pretrain": 1, **AFTER_FINETUNING}),
        (
            "pretrain.tiny_masked.tokenizer.max_genes=24",
            {"check_corpus": 1, "pretrain": 1, **AFTER_FINETUNING},
        ),
        ("preprocess.tiny.store.seed=3", AFTER_PREPARING),
        ("preprocess.tiny.fit.min_cells=2", {"fit_preprocessing": 1, **AFTER_PREPARING}),
        (
            "gears.pairing.seed=3",
            {
                "pair_controls": 1,
                "fit_preprocessing": 1,
                **AFTER_PREPARING,
                "fit_baseline": 3,
                "predict_perturbations": 4,
                "score_perturbations": 4,
                "summarise": 1,
            },
        ),
    ],
)
def test_a_changed_setting_reruns_only_what_reads_it(finished, assignment, jobs):
    assert finished.planned("--config", f"set={assignment}") == jobs
