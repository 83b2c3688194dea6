import pytest

from vcpipe.config.datasets import Columns
from vcpipe.config.reading import read_pipeline, read_section, settings
from vcpipe.errors import InputError


@pytest.fixture
def values() -> dict:
    return {
        "datasets": {"d": {"path": "d.h5ad"}},
        "splits": {"s": {}, "all": {"method": "no_split"}},
        "preprocess": {"c": {"datasets": ["d"], "split": "s"}},
        "pretrain": {"p": {"corpus": "c"}},
        "finetune": {"f": {"dataset": "d", "split": "s", "pretrained": "p"}},
    }


def wrong(values: dict) -> str:
    with pytest.raises(InputError) as caught:
        read_pipeline(values=values)
    return str(caught.value)


def test_a_run_may_not_start_from_weights_that_saw_its_test_cells(values):
    values["preprocess"]["c"]["split"] = None
    text = wrong(values)
    assert "finetune.f is tested on perturbations of d that its encoder has seen" in text
    assert "preprocess.c.split is None; expected 's'" in text


def test_what_an_encoder_started_from_may_not_have_seen_the_test_cells_either(values):
    """However many runs lie between: each of them hands on what it has learned."""
    values["atlases"] = {"a": {"rna": {"paths": ["a.h5ad"]}}}
    values["preprocess"]["atlas"] = {"atlases": ["a"]}
    folder = "results/pretrain/{}/checkpoint".format
    values["pretrain"] |= {
        "second": {"corpus": "atlas", "pretrained": folder("p")},
        "third": {"corpus": "atlas", "pretrained": folder("second")},
    }
    values["finetune"]["f"]["pretrained"] = "third"
    read_pipeline(values=values)
    values["preprocess"]["c"]["split"] = None
    text = wrong(values)
    assert text.count("finetune.f is tested on perturbations of d that its encoder has seen") == 1
    assert "preprocess.c.split is None; expected 's'" in text
    # Runs that start from each other are another mistake, over which this one isn't lost.
    values["pretrain"]["p"]["pretrained"] = folder("third")
    assert "that its encoder has seen" in wrong(values)


def test_another_name_for_the_same_cells_is_no_way_around_it(values):
    values["datasets"]["e"] = {"path": "d.h5ad"}
    values["preprocess"]["c"] = {"datasets": ["e"]}
    assert "that its encoder has seen" in wrong(values)


def test_controls_kept_for_scoring_are_not_pretrained_on_where_no_perturbation_is_held_out(values):
    values["preprocess"]["c"]["split"] = None
    values["finetune"]["f"] |= {
        "split": "all",
        "training": {"early_stopping": {"monitor": "train_loss"}},
    }
    text = wrong(values)
    assert "finetune.f is tested on control cells of d that its encoder has seen" in text
    assert "preprocess.c.split is None; expected 'all'" in text
    for split in ("all", "s"):
        values["preprocess"]["c"]["split"] = split
        read_pipeline(values=values)


def test_a_split_without_val_cannot_be_monitored(values):
    values["preprocess"]["c"]["split"] = "all"
    values["finetune"]["f"]["split"] = "all"
    assert "keeps no perturbation for val; expected train_loss" in wrong(values)


@pytest.mark.parametrize(
    "split",
    [
        {"method": "held_out_context", "context_key": "cell_type", "test_contexts": ["A"]},
        {"method": "published", "test_list": "x.csv"},
    ],
)
def test_val_contexts_and_val_lists_may_be_left_out_only_where_val_is_not_monitored(values, split):
    values["splits"]["s"] = split
    assert "splits.s keeps no perturbation for val; expected train_loss" in wrong(values)
    values["finetune"]["f"]["training"] = {"early_stopping": {"monitor": "train_loss"}}
    read_pipeline(values=values)


def test_pairs_may_not_bring_controls_of_held_out_batches_into_training(values):
    values["splits"]["s"] = {
        "method": "held_out_context",
        "context_key": "batch",
        "test_contexts": ["b1"],
        "val_contexts": ["b2"],
    }
    text = wrong(values)
    assert "gears.pairing.within is 'cell_type'; expected 'batch'" in text
    values["gears"] = {"pairing": {"within": "batch"}}
    read_pipeline(values=values)


@pytest.mark.parametrize(
    ("source", "shown"),
    [({}, "no source"), ({"path": "x", "simulate": {}}, "path and simulate")],
)
def test_a_dataset_has_exactly_one_source(values, source, shown):
    values["datasets"]["d"] = source
    assert f"datasets.d has {shown}; expected exactly one of path, download, simulate" in wrong(
        values
    )


def test_a_cell_type_with_an_underscore_is_refused_with_a_way_out(values):
    values["datasets"]["d"]["cell_type"] = "H1_ESC"
    assert "use 'H1-ESC'" in wrong(values)


def test_a_column_of_cell_types_survives_the_way_to_the_conversion(values):
    values["datasets"]["d"]["cell_type_key"] = "kind"
    columns = read_pipeline(values=values)[0].datasets["d"].columns()
    assert read_section(Columns, settings(columns)).cell_type_key == "kind"
    values["datasets"]["d"]["cell_type"] = "H1"
    assert "set cell_type_key or cell_type, not both" in wrong(values)


def test_a_run_may_not_have_the_name_of_a_baseline(values):
    values["finetune"]["no_change"] = values["finetune"].pop("f")
    assert "finetune.no_change has the name of a baseline" in wrong(values)


@pytest.mark.parametrize("name", ["a/b", "../x", "", "a b"])
def test_a_name_that_is_no_file_name_is_refused(values, name):
    values["finetune"][name] = values["finetune"].pop("f")
    assert "finetune" in wrong(values)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("control_label", 5, "control_label is 5; expected a label or a list of labels"),
        ("control_label", [], "control_label is []; expected a label or a list of labels"),
        ("control_label", ["NT", 5], "expected a label or a list of labels, in quotes"),
        ("target_pattern", "[", "target_pattern is '['; expected a regular expression (unterm"),
        ("target_pattern", "abc", "expected a group in parentheses around what was perturbed"),
        ("drop_labels", ["NT"], "'NT' stands in control_label and in drop_labels"),
    ],
)
def test_labels_and_patterns_that_mean_nothing_are_refused(values, key, value, message):
    values["datasets"]["d"] |= {"control_label": "NT", key: value}
    assert message in wrong(values)


def test_seeds_and_a_twin_are_runs_of_their_own_and_their_means(values):
    values["finetune"]["f"] |= {"seeds": [3, 5], "random_init_twin": True, "dropout": 0.1}
    pipeline, _ = read_pipeline(values=values)
    runs = pipeline.with_all_runs().finetune
    assert {(name, run.training.seed, run.initial_weights) for name, run in runs.items()} == {
        (f"f{twin}_seed{seed}", seed, weights)
        for seed in (3, 5)
        for twin, weights in (("", "pretrained"), ("_random", "random"))
    }
    assert pipeline.ensembles() == {
        "f": ["f_seed3", "f_seed5"],
        "f_random": ["f_random_seed3", "f_random_seed5"],
    }
    # What trains a run is told of it alone: another seed beside it trains nothing anew.
    assert all(run.seeds == [] and not run.random_init_twin for run in runs.values())
    assert all(run.dropout == 0.1 for run in runs.values())


def test_a_run_without_seeds_is_one_run(values):
    pipeline, _ = read_pipeline(values=values)
    assert pipeline.with_all_runs() == pipeline
    assert pipeline.ensembles() == {}
    values["finetune"]["f"]["random_init_twin"] = True
    pipeline, _ = read_pipeline(values=values)
    assert list(pipeline.with_all_runs().finetune) == ["f", "f_random"]
    assert pipeline.ensembles() == {}


def test_a_twin_or_a_seed_must_not_take_the_name_of_another_run(values):
    values["finetune"]["f_random"] = dict(values["finetune"]["f"])
    values["finetune"]["f_seed1"] = dict(values["finetune"]["f"])
    values["finetune"]["f"] |= {"random_init_twin": True}
    assert "finetune.f.random_init_twin makes a run f_random, and finetune has one" in wrong(values)
    values["finetune"]["f"] |= {"random_init_twin": False, "seeds": [1, 2]}
    assert "finetune.f.seeds makes a run f_seed1" in wrong(values)
    values["finetune"]["f"]["seeds"] = [1, 1]
    assert "seeds are [1, 1]; expected each of them once" in wrong(values)


def test_only_finetuning_can_be_stopped_by_scores_of_perturbations(values):
    monitor = {"training": {"early_stopping": {"monitor": "val_delta_pearson"}}}
    values["finetune"]["f"] |= monitor
    read_pipeline(values=values)
    values["pretrain"]["p"] |= monitor
    assert "pretrain.p.training.early_stopping.monitor is val_delta_pearson, which only" in wrong(
        values
    )


def test_a_list_of_targets_names_its_split_and_has_a_name_of_its_own(values):
    values["target_lists"] = {"s": {"path": "l.csv", "split": "other"}}
    text = wrong(values)
    assert "target_lists.s.split is 'other'; expected a name in splits (all, s)" in text
    assert "target_lists.s has the name of a split; give it another" in text


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (
            {"genes_per_pass": "full", "passes": 3},
            "passes is 3, but with genes_per_pass full every pass is the same",
        ),
        ({"library_sizes": "listed"}, "library_sizes is listed, but counts is false"),
        ({"count_sampling": "poisson"}, "count_sampling is poisson, but counts is false"),
    ],
)
def test_settings_of_predictions_that_nothing_would_read_are_refused(values, prediction, message):
    values["eval"] = {"prediction": prediction}
    assert message in wrong(values)


def test_sums_of_files_are_those_of_a_folder_of_your_own(values):
    values["finetune"]["f"]["pretrained_sha256"] = {"args": "0" * 64}
    assert "pretrained is 'p', a run of this pipeline; expected null" in wrong(values)
    values["finetune"]["f"]["pretrained"] = "resources/scgpt"
    read_pipeline(values=values)
    values["finetune"]["f"]["pretrained_sha256"] = {"args": "0" * 63}
    assert "finetune.f.pretrained_sha256.args" in wrong(values)


def test_upstreams_draws_leave_no_choice_of_genes_or_order(values):
    values["finetune"]["f"]["perturbation"] = {"gene_sampling": "upstream"}
    assert "always_sample_targets is true; expected false" in wrong(values)
    values["finetune"]["f"]["perturbation"]["always_sample_targets"] = False
    read_pipeline(values=values)
    values["finetune"]["f"]["loading"] = {"strategy": "random_sampling"}
    assert "which decides the order of cells too" in wrong(values)
