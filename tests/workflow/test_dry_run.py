"""What stops before anything runs, and what each profile would run."""

import re

import pytest


@pytest.mark.parametrize("profile", ["demo", "local", "slurm"])
def test_each_profile_lists_the_whole_dag(fresh, profile):
    jobs = fresh.planned(profile=profile)
    assert set(jobs) == {
        "simulate_screen",
        "convert_to_gears",
        "pair_controls",
        "check_dataset",
        "split_perturbations",
        "build_vocabulary",
        "fit_preprocessing",
        "prepare_cells",
        "check_corpus",
        "pretrain",
        "match_genes",
        "finetune_perturbation",
        "fit_baseline",
        "predict_perturbations",
        "score_perturbations",
        "summarise",
    }
    assert jobs["fit_baseline"] == 3
    assert jobs["predict_perturbations"] == 4


def test_the_default_configuration_is_the_real_run_and_needs_no_data_for_a_dry_run(fresh):
    (fresh.folder / "tests/workflow/config.yaml").write_text(
        (fresh.folder / "config/config.yaml").read_text()
    )
    assert fresh.planned(profile="slurm")["fetch_dataset"] == 1


def test_gpu_rules_ask_for_gpus_and_every_rule_for_memory_and_time(fresh):
    output = fresh.run("results/eval/summary.csv", "-n", profile="slurm").stdout
    jobs = {
        (rule, model): resources
        for rule, rest, resources in re.findall(
            r"^rule (\w+):\n((?: +.*\n)*?) +resources: (.*)$", output, re.MULTILINE
        )
        for model in [*re.findall(r"model=(\w+)", rest), *re.findall(r"baseline=(\w+)", rest), ""][
            :1
        ]
    }
    assert len(jobs) == 24
    for resources in jobs.values():
        assert "mem_mb=" in resources
        assert "runtime=" in resources
    assert {job for job, resources in jobs.items() if "gpu=1" in resources} == {
        ("pretrain", ""),
        ("finetune_perturbation", ""),
        ("predict_perturbations", "tiny_model"),
    }


def test_every_seed_and_every_twin_is_a_run_and_the_mean_of_seeds_is_scored_beside_them(fresh):
    seeds = "seeds: [0, 1]\n    random_init_twin: true\n    perturbation: {max_seq_len: 32}"
    fresh.edit("tests/workflow/config.yaml", "perturbation: {max_seq_len: 32}", seeds)
    jobs = fresh.planned()
    assert jobs["finetune_perturbation"] == 4
    assert jobs["average_predictions"] == 2
    assert jobs["predict_perturbations"] == 4 + 3
    assert jobs["score_perturbations"] == 4 + 2 + 3


@pytest.mark.parametrize("name", ["demo", "datlinger"])
def test_the_comparisons_of_options_can_be_planned(fresh, name):
    config = fresh.folder / f"config/comparisons/{name}.yaml"
    # Stands for the file that a user puts there.
    path = fresh.folder / "resources/data/datlinger_jurkat_cropseq_counts.h5ad"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    jobs = fresh.planned(config=str(config))
    assert jobs["finetune_perturbation"] == 18
    assert jobs["average_predictions"] == 9


def test_a_misspelt_key_stops_the_dry_run_and_names_the_nearest(fresh):
    fresh.edit("tests/workflow/config.yaml", "batch_size", "batch_sise")
    done = fresh.run("results/eval/summary.csv", "-n", check=False)
    assert done.returncode != 0
    message = (
        "pretrain.tiny_masked.training.batch_sise is not a setting; did you mean 'batch_size'?"
    )
    assert message in done.stdout + done.stderr


def test_a_dataset_that_is_not_there_is_named_with_its_key(fresh):
    config = fresh.folder / "tests/workflow/config.yaml"
    text = config.read_text()
    start, end = text.index("    simulate:"), text.index("splits:")
    config.write_text(text[:start] + "    path: nowhere.h5ad\n" + text[end:])
    done = fresh.run("results/eval/summary.csv", check=False)
    assert done.returncode != 0
    assert "datasets.tiny.path is 'nowhere.h5ad'" in done.stdout + done.stderr
    assert not (fresh.folder / "results").exists()


def test_a_checkpoint_that_is_not_there_is_named_with_its_key(fresh):
    fresh.edit("tests/workflow/config.yaml", "pretrained: tiny_masked", "pretrained: resources/no")
    done = fresh.run("results/eval/summary.csv", check=False)
    assert done.returncode != 0
    assert (
        "finetune.tiny_model.pretrained is 'resources/no/best_model.pt'"
        in done.stdout + done.stderr
    )


def test_a_single_stage_is_made_by_naming_its_target(fresh):
    done = fresh.run("results/pretrain/tiny_masked/checkpoint", "-n")
    output = done.stdout + done.stderr
    assert "prepare_cells" in output
    assert "finetune" not in output


LISTED = "results/predict_perturbations/tiny/wanted"


@pytest.fixture
def listed(fresh):
    """A list of targets that the models of a split predict."""
    (fresh.folder / "a list.csv").write_text("target_gene,n_cells\nA,3\n")
    with (fresh.folder / "tests/workflow/config.yaml").open("a") as file:
        file.write("\ntarget_lists:\n  wanted: {path: a list.csv, split: simulation_1_0.75}\n")
    return fresh


def test_a_list_is_predicted_by_the_models_of_its_split(listed):
    jobs = listed.planned(target=f"{LISTED}/ridge_pca.h5ad")
    assert jobs["fit_baseline"] == jobs["predict_perturbations"] == jobs["split_perturbations"] == 1
    assert "finetune_perturbation" not in jobs
    done = listed.run(f"{LISTED}/tiny_model.h5ad", "-n", "-p")
    assert "--targets 'a list.csv'" in done.stdout + done.stderr
    assert "results/finetune_perturbation/tiny_model/checkpoint" in done.stdout + done.stderr


def test_a_submission_runs_in_the_env_of_the_challenges_tool(listed):
    target = "results/package_submission/tiny/wanted/no_change.vcc"
    assert listed.planned(target=target)["package_submission"] == 1
    done = listed.run(target, "-n", "-p")
    command = "in_env cell_eval python -m scripts.package_submission"
    assert command in done.stdout + done.stderr
