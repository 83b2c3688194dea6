"""The loading experiment through Snakemake: its jobs. tests/check_demo.py looks at its results."""

import re

import nbformat
import pytest
import yaml

from tests.workflow.conftest import PROJECT, Workflow
from vcpipe.config.loader import STRATEGIES, Loader
from vcpipe.data.simulated_plates import write_plates

SUMMARY = "results/loader/summary.csv"
LOADER = """
loader:
  data:
    simulate: {num_plates: 4, cells_per_plate: 300, num_genes: 80, num_drugs: 9, num_moas: 4}
    train_plates: [1, 2]
    val_plates: [3]
    test_plates: [4]
  training: {batch_size: 32, learning_rate: 0.002, seeds: [0, 1]}
  scdataset: {fetch_factor: 2, num_workers: 1}
  strategies:
    true_weighted: {enabled: false}
"""
ENABLED = [name for name in STRATEGIES if name != "true_weighted"]


def configured(workflow: Workflow, text: str = LOADER) -> Workflow:
    (workflow.folder / "loader.yaml").write_text(text)
    return workflow


def planned(workflow: Workflow, target: str = SUMMARY, *arguments: str) -> dict[str, int]:
    return workflow.planned(*arguments, target=target, config="loader.yaml")


def refused(workflow: Workflow, target: str) -> str:
    done = workflow.run(target, "-n", config="loader.yaml", check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_each_enabled_strategy_is_a_job(fresh):
    assert planned(configured(fresh)) == {
        "simulate_plates": 1,
        "shuffle_plates": 1,
        "loader_experiment": len(ENABLED),
        "summarise_loader": 1,
    }


@pytest.mark.slow
def test_one_strategy_is_made_by_naming_its_target(fresh):
    jobs = planned(configured(fresh), "results/loader_experiment/streaming")
    assert jobs == {"simulate_plates": 1, "loader_experiment": 1}


@pytest.mark.slow
def test_a_collection_is_written_where_zarr_is_read(fresh):
    jobs = planned(configured(fresh, LOADER + "  backend: zarr\n"))
    assert jobs["collect_plates"] == jobs["shuffle_plates"] == 1


def test_a_disabled_strategy_is_refused_with_its_key(fresh):
    text = refused(configured(fresh), "results/loader_experiment/true_weighted")
    assert "loader.strategies.true_weighted.enabled is false" in text


def test_without_the_section_the_remedy_is_named(fresh):
    text = refused(configured(fresh, "checks: {}\n"), SUMMARY)
    assert "The configuration has no section loader" in text


def test_a_folder_that_is_not_there_is_named_with_its_key(fresh):
    workflow = configured(fresh, "loader: {from: config/loader/pilot.yaml}\n")
    assert "loader.data.h5ad_dir is '/path/to/h5ad/files'" in refused(workflow, SUMMARY)


@pytest.mark.slow
def test_the_summary_of_models_does_not_depend_on_it(fresh):
    fresh.edit("tests/workflow/config.yaml", "gears:", f"{LOADER}\ngears:")
    assert not {"loader_experiment", "simulate_plates"} & set(fresh.planned())


@pytest.mark.slow
def test_plates_that_are_not_learned_from_and_labels_do_not_shuffle_again(fresh):
    store, own = "results/shuffle_plates/store", fresh.folder / "own"
    own.mkdir()
    write_plates(own, Loader(**yaml.safe_load(LOADER)["loader"]).data.simulate)
    labels = fresh.folder / "labels"
    labels.mkdir()
    text = re.sub("simulate: .*", "h5ad_dir: own\n    label_dir: labels", LOADER)
    configured(fresh, text).run(store, config="loader.yaml")
    for path in (own / "plate4.h5ad", own / "plate9.h5ad", own / "._plate1.h5ad"):
        path.write_bytes(b"other")
    (labels / "moa-fine.json").write_text("{}")
    assert planned(fresh, store) == {}
    (own / "plate2.h5ad").write_bytes(b"other")
    assert planned(fresh, store) == {"shuffle_plates": 1}


def test_the_notebook_is_kept_without_results():
    notebook = nbformat.read(PROJECT / "scripts/analyze_results.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
