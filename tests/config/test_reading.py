import pytest

from vcpipe.config.finetune import Finetune
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.reading import (
    PROJECT,
    check_files,
    origin_of,
    read_pipeline,
    read_section,
    read_yaml,
    settings,
    values_of,
)
from vcpipe.errors import InputError


def wrong(values: dict, overrides: list[str] = ()) -> str:
    with pytest.raises(InputError) as caught:
        read_pipeline(values=values, overrides=overrides)
    return str(caught.value)


@pytest.fixture
def values() -> dict:
    return {
        "datasets": {"d": {"path": "d.h5ad"}},
        "splits": {"simulation_1_0.75": {}},
        "preprocess": {"c": {"datasets": ["d"], "split": "simulation_1_0.75"}},
        "pretrain": {"p": {"corpus": "c"}},
        "finetune": {"f": {"dataset": "d", "split": "simulation_1_0.75", "pretrained": "p"}},
    }


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml", "my_screen.yaml"])
def test_the_shipped_configurations_are_valid(name):
    pipeline, _ = read_pipeline([PROJECT / "config" / name])
    assert pipeline.finetune


def test_the_recipe_of_scgpts_tutorial_is_kept_to_the_letter():
    run = read_section(Finetune, str(PROJECT / "config/finetune/scgpt_vcc.yaml"), [])
    its, training = run.perturbation, run.training
    assert (run.optimizer.name, run.optimizer.lr, run.optimizer.weight_decay) == ("adam", 1e-4, 0)
    assert (run.scheduler.name, run.scheduler.gamma, run.dropout) == ("step", 0.9, 0)
    assert (training.batch_size, training.max_epochs) == (64, 15)
    assert (training.precision, training.gradient_clip) == ("16-mixed", 1.0)
    assert training.early_stopping.monitor == "train_loss"
    assert training.early_stopping.patience == 10
    assert (its.max_seq_len, its.gene_sampling, its.unknown_genes) == (1536, "upstream", "pad")
    assert not its.always_sample_targets
    assert not its.gene_aliases
    assert (run.pretrained, run.initial_weights) == ("resources/scgpt", "pretrained")
    # The sums stand where people read them, too.
    page = (PROJECT / "resources/README.md").read_text()
    assert all(sha256 in page for sha256 in run.pretrained_sha256.by_file().values())
    assert len(run.pretrained_sha256.by_file()) == 3


@pytest.mark.parametrize(("folder", "section"), [("pretrain", Pretrain), ("finetune", Finetune)])
def test_every_shipped_run_is_a_valid_section(folder, section):
    files = sorted((PROJECT / "config" / folder).glob("*.yaml"))
    assert files
    for path in files:
        read_section(section, str(path))


def test_an_unknown_key_names_the_nearest_one(values):
    values["pretrain"]["p"]["optimizer"] = {"lrr": 1e-4}
    assert "pretrain.p.optimizer.lrr is not a setting; did you mean 'lr'?" in wrong(values)


def test_an_unknown_key_far_from_all_lists_the_keys(values):
    values["eval"] = {"zzz": 1}
    assert "eval.zzz is not a setting; the keys are baselines, prediction" in wrong(values)


def test_all_errors_are_reported_at_once_with_their_dotted_names(values):
    values["datasets"]["d"]["unknown_targets"] = "ignore"
    values["pretrain"]["p"]["optimizer"] = {"lr": -1}
    values["pretrain"]["p"]["model"] = {"hidden_dim": 30, "num_heads": 4}
    values["finetune"]["f"]["split"] = "other"
    text = wrong(values)
    assert "4 errors in the configuration:" in text
    assert "datasets.d.unknown_targets is 'ignore'; expected 'keep', 'drop' or 'error'" in text
    assert "pretrain.p.optimizer.lr is -1; expected greater than 0" in text
    assert "pretrain.p.model: hidden_dim is 30 and num_heads is 4" in text
    assert "finetune.f.split is 'other'; expected a name in splits (simulation_1_0.75)" in text


def test_a_missing_key_says_what_it_is(values):
    del values["finetune"]["f"]["dataset"]
    assert "finetune.f.dataset is missing; expected a name in datasets" in wrong(values)


def test_numbers_that_yaml_reads_as_text_are_numbers(values):
    values["pretrain"]["p"]["optimizer"] = {"lr": "1e-4"}
    pipeline, _ = read_pipeline(values=values)
    assert pipeline.pretrain["p"].optimizer.lr == 1e-4


@pytest.mark.parametrize("value", [".nan", ".inf", "[1]", "fast"])
def test_a_learning_rate_is_a_finite_number(values, value):
    assert "pretrain.p.optimizer.lr" in wrong(values, [f"pretrain.p.optimizer.lr={value}"])


def test_any_key_is_overridden_by_its_dotted_name(values):
    pipeline, origins = read_pipeline(
        values=values,
        overrides=["finetune.f.optimizer.lr=5e-5", "splits.simulation_1_0.75.seed=3"],
    )
    assert pipeline.finetune["f"].optimizer.lr == 5e-5
    assert pipeline.splits["simulation_1_0.75"].seed == 3
    assert origin_of("finetune.f.optimizer.lr", origins) == "command line"


def test_an_override_of_an_undefined_run_names_those_that_exist(values):
    assert "finetune.g is not defined; the names there are f." in wrong(
        values, ["finetune.g.optimizer.lr=1"]
    )


@pytest.mark.parametrize("text", ["optimizer.lr", "=3", "optimizer.lr=[1"])
def test_an_override_that_is_none_is_an_error(text):
    with pytest.raises(InputError, match=r"override|YAML"):
        read_section(Pretrain, "{corpus: c}", [text])


def test_from_takes_a_file_and_lays_the_other_keys_over_it(values, tmp_path):
    (tmp_path / "run.yaml").write_text("corpus: c\noptimizer: {lr: 0.5, weight_decay: 0.1}\n")
    values["pretrain"]["p"] = {"from": str(tmp_path / "run.yaml"), "optimizer": {"lr": 0.25}}
    run = read_pipeline(values=values)[0].pretrain["p"]
    assert (run.corpus, run.optimizer.lr, run.optimizer.weight_decay) == ("c", 0.25, 0.1)


def test_the_origin_of_each_value_is_its_file_and_line(tmp_path):
    (tmp_path / "run.yaml").write_text("corpus: c\noptimizer:\n  lr: 0.5\n")
    (tmp_path / "all.yaml").write_text(
        "datasets: {d: {path: x}}\npreprocess: {c: {datasets: [d]}}\n"
        f"pretrain:\n  p: {{from: {tmp_path / 'run.yaml'}, val_fraction: 0.5}}\n"
    )
    _, origins = read_pipeline([tmp_path / "all.yaml"])
    assert origin_of("pretrain.p.optimizer.lr", origins) == f"{tmp_path / 'run.yaml'}:3"
    assert origin_of("pretrain.p.val_fraction", origins) == f"{tmp_path / 'all.yaml'}:4"
    assert origin_of("pretrain.p.optimizer.weight_decay", origins) == "default"


def test_a_key_that_stands_twice_is_an_error(tmp_path):
    (tmp_path / "run.yaml").write_text("corpus: c\ncorpus: d\n")
    with pytest.raises(InputError, match=r"run\.yaml:2: 'corpus' stands twice"):
        read_yaml(tmp_path / "run.yaml")


@pytest.mark.parametrize("text", ["- a list", "a: [1", "just text"])
def test_a_file_that_holds_no_settings_is_an_error(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError, match=r"run\.yaml"):
        read_yaml(tmp_path / "run.yaml")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_yaml(tmp_path / "run.yaml")


def test_files_that_are_not_there_are_all_named_before_anything_is_planned(values):
    values["gears"] = {"cell_graphs": {"gene2go": "no.pkl"}}
    values["finetune"]["f"]["pretrained"] = "nowhere"
    values["preprocess"]["c"]["vocabulary"] = {"genes": "no.json"}
    values["splits"]["list"] = {"method": "published", "test_list": "no.csv"}
    values["target_lists"] = {
        "l": {"path": "wanted.csv", "split": "simulation_1_0.75", "genes": "genes.csv"}
    }
    with pytest.raises(InputError) as caught:
        check_files(read_pipeline(values=values)[0])
    text = str(caught.value)
    assert "target_lists.l.path is 'wanted.csv', and there is no such file; expected a CSV" in text
    assert "target_lists.l.genes is 'genes.csv', and there is no such file; expected genes" in text
    assert "splits.list.test_list is 'no.csv', and there is no such file; expected a list" in text
    assert "datasets.d.path is 'd.h5ad', and there is no such file; expected an h5ad" in text
    assert "preprocess.c.vocabulary.genes is 'no.json'" in text
    assert "gears.cell_graphs.gene2go is 'no.pkl'" in text
    assert "finetune.f.pretrained is 'nowhere/best_model.pt'" in text
    assert "expected a name in pretrain (p), or a folder with best_model.pt" in text


def test_a_dotted_key_in_a_file_says_how_it_is_written(values):
    values["pretrain"]["p"]["training.max_epochs"] = 1
    assert "is not a setting; write it as training: {max_epochs: ...}" in wrong(values)


def test_settings_survive_the_way_from_rule_to_script(values):
    run = read_pipeline(values=values)[0].pretrain["p"]
    assert read_section(Pretrain, settings(run)) == run


def test_a_mapping_of_values_is_one_value():
    pipeline, _ = read_pipeline(values={"atlases": {"a": {"census": {"filters": {"n": [1, 2]}}}}})
    assert values_of(pipeline)["atlases.a.census.filters"] == {"n": [1, 2]}


def test_settings_are_frozen(values):
    run = read_pipeline(values=values)[0].pretrain["p"]
    with pytest.raises(ValueError, match="frozen"):
        run.corpus = "other"
