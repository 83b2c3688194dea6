"""What a classifier learns depends on how cells are mixed, and what loading took is measured."""

import json
import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from scripts import collect_plates, loader_experiment, shuffle_plates
from vcpipe.config.loader import TASKS, Loader
from vcpipe.config.reading import PROJECT, read_section, settings
from vcpipe.data.loading.zarr_writing import write_collection
from vcpipe.data.plates import label_table, open_plates
from vcpipe.data.simulated_plates import plan_plates, write_plates
from vcpipe.errors import InputError
from vcpipe.evaluation.classification import score_tasks
from vcpipe.training.consumption import Meter, read_once
from vcpipe.training.distributed import Process
from vcpipe.training.loader_experiment import (
    entropy_bits,
    open_experiment,
    prepare_cache,
    room_for_files,
    run_seed,
)

ALONE = Process(0, 1, torch.device("cpu"))
DEMO = str(PROJECT / "config/loader/demo.yaml")
SMALL = (
    "data.simulate={num_plates: 4, cells_per_plate: 300, num_genes: 80, num_drugs: 9, num_moas: 7}",
    "data.train_plates=[1, 2]",
    "data.val_plates=[3]",
    "data.test_plates=[4]",
    "scdataset.fetch_factor=2",
    "training.batch_size=32",
    "training.seeds=[0]",
)


def demo(*overrides: str) -> Loader:
    return read_section(Loader, DEMO, overrides)


def small(*overrides: str) -> Loader:
    return demo(*SMALL, *overrides)


def made(folder: Path, config: Loader, kinds=("plates", "store", "collection")) -> dict[str, Path]:
    """Plates, and the same cells as a store and as a collection."""
    names = {"plates": "plates", "store": "store", "collection": "plates.zarr"}
    paths = {kind: folder / names[kind] for kind in kinds}
    paths["plates"].mkdir()
    write_plates(paths["plates"], config.data.simulate)
    cells = ["--plates", str(paths["plates"]), "--config", settings(config.training_cells())]
    shuffle_plates.main([*cells, "--out", str(paths["store"])])
    if "collection" in kinds:
        collect_plates.main([*cells, "--out", str(paths["collection"])])
    return paths


@pytest.fixture(scope="module")
def plates(tmp_path_factory) -> dict[str, Path]:
    return made(tmp_path_factory.mktemp("plates"), small())


def run(config: Loader, strategy: str, plates: dict, seed: int = 0, threads: int = 1):
    experiment = open_experiment(config, strategy, **plates)
    return experiment, run_seed(experiment, config, strategy, seed, threads, ALONE)


def macro_f1(experiment, trained) -> dict[str, float]:
    cells = (experiment.train.classes_CT, experiment.test.classes_CT, trained.predicted_CT)
    _, tasks = score_tasks(experiment.classes, experiment.unknown, *cells)
    return {task: its["scores"]["macro_f1"] for task, its in tasks.items()}


def test_shuffled_on_disk_is_as_good_as_random_and_streaming_learns_no_drug(tmp_path):
    """scDataset's finding, in kind; with blocks of 16 in a small buffer it stands between."""
    config = demo()
    paths = made(tmp_path, config, ["plates", "store"])
    found = {
        strategy: macro_f1(*run(config, strategy, paths))
        for strategy in (
            "streaming",
            "streaming_buffer",
            "block_shuffling",
            "random_sampling",
            "full_shuffle",
        )
    }
    drug = {strategy: its["drug"] for strategy, its in found.items()}
    assert drug["streaming"] < 0.08
    assert drug["streaming_buffer"] < 0.08
    assert drug["block_shuffling"] > 0.13
    assert drug["random_sampling"] > drug["block_shuffling"] + 0.08
    assert drug["full_shuffle"] > drug["block_shuffling"] + 0.08
    assert all(its["cell_line"] > 0.95 for its in found.values())


def test_a_run_is_a_function_of_its_seed_whatever_the_number_of_threads(plates):
    config = small()
    _, one = run(config, "block_shuffling", plates, threads=1)
    _, two = run(config, "block_shuffling", plates, threads=2)
    _, other = run(config, "block_shuffling", plates, seed=1)
    assert one.curves == two.curves
    assert one.metrics == two.metrics
    assert np.array_equal(one.predicted_CT, two.predicted_CT)
    assert one.curves != other.curves


@pytest.mark.parametrize("strategy", ["streaming", "block_weighted", "random_sampling"])
def test_h5ad_and_zarr_give_the_same_cells(plates, strategy):
    _, one = run(small(), strategy, plates)
    _, other = run(small("backend=zarr"), strategy, plates)
    assert one.curves == other.curves
    assert (one.about["backend"], other.about["backend"]) == ("h5ad", "zarr")


def test_what_a_run_took_is_measured(plates):
    _, trained = run(small("training.num_epochs=2"), "random_sampling", plates)
    about = trained.about
    assert about["cells"] == 2 * 600
    assert about["epochs"] == 2
    assert about["cells_per_second"] == pytest.approx(1200 / about["seconds"])
    assert 0 < about["wait_share"] < 1
    assert about["cpu_seconds"] > 0
    assert about["peak_memory_mb"] is None or about["peak_memory_mb"] > 50
    assert about["cache"] == "warm"
    assert about["versions"]["torch"] == version("torch")
    assert {"config", "config_digest", "data_digest", "test_digest"} <= set(about)
    json.dumps(about)


def test_batches_are_as_mixed_as_their_strategy_says(plates):
    found = {
        strategy: run(small(), strategy, plates)[1].about
        for strategy in ("streaming", "random_sampling", "full_shuffle")
    }
    entropy = {strategy: about["entropy"] for strategy, about in found.items()}
    chance = found["streaming"]["entropy_of_chance"]
    assert entropy["streaming"]["plate"] < 0.1
    assert entropy["streaming"]["drug"] < 1
    for strategy in ("random_sampling", "full_shuffle"):
        for label in ("plate", *TASKS):
            assert entropy[strategy][label] == pytest.approx(chance[label], abs=0.15)


@pytest.fixture(scope="module")
def mapped(plates, tmp_path_factory) -> dict[str, Path]:
    """The same plates with their mechanisms in files, and a store that has none."""
    folder = tmp_path_factory.mktemp("mapped")
    labels = folder / "labels"
    labels.mkdir()
    plan = plan_plates(small().data.simulate)
    for task, its in (("moa-broad", plan.moa_broad_D), ("moa-fine", plan.moa_fine_D)):
        known = dict(zip(plan.drugs.tolist(), its.tolist(), strict=True))
        (labels / f"{task}.json").write_text(json.dumps(known))
    cells = settings(small(f"data.label_dir={labels}").training_cells())
    store = folder / "store"
    shuffle_plates.main(["--plates", str(plates["plates"]), "--config", cells, "--out", str(store)])
    return {"labels": labels, "store": store}


@pytest.mark.parametrize("strategy", ["random_sampling", "full_shuffle"])
def test_mechanisms_from_files_are_as_good_as_those_of_obs(plates, mapped, strategy):
    _, own = run(small(), strategy, plates)
    config = small(f"data.label_dir={mapped['labels']}")
    experiment, other = run(config, strategy, {**plates, "store": mapped["store"]})
    assert other.curves == own.curves
    assert other.about["entropy"] == own.about["entropy"]
    assert other.about["entropy_of_chance"] == own.about["entropy_of_chance"]
    entropies = [other.about["entropy"][task] for task in ("moa-broad", "moa-fine", "drug")]
    assert entropies == sorted(set(entropies))
    sizes = [len(experiment.classes[task]) for task in ("moa-broad", "moa-fine", "drug")]
    assert sizes == sorted(set(sizes))


def test_every_task_is_scored_by_its_own_classes(plates):
    """Mechanisms broad and fine and drugs are of different numbers: none can stand for another."""
    experiment, trained = run(small(), "random_sampling", plates)
    obs = ad.read_h5ad(plates["plates"] / "plate4.h5ad").obs
    for place, task in enumerate(TASKS):
        codes = experiment.test.classes_CT[:, place]
        names = [*experiment.classes[task], *experiment.unknown[task]]
        assert [names[code] for code in codes] == obs[task].tolist()
        assert trained.predicted_CT[:, place].max() < len(experiment.classes[task])


def test_validation_cells_are_of_the_whole_plate(plates):
    config = small("data.max_val_cells=60")
    experiment, trained = run(config, "streaming", plates)
    drug = TASKS.index("drug")
    every = open_experiment(small(), "streaming", **plates).val.classes_CT
    assert np.array_equal(experiment.val.classes_CT, every[::5])
    assert len(np.unique(every[:60, drug])) < len(np.unique(experiment.val.classes_CT[:, drug]))
    val = [row[-1] for row in trained.metrics if row[-1] is not None]
    assert np.isfinite(val).all()


def test_entropy_by_hand():
    assert entropy_bits(np.array([3, 3, 3])) == 0
    assert entropy_bits(np.array([0, 1, 0, 1])) == 1
    assert entropy_bits(np.arange(8)) == 3


def test_curves_add_up_to_the_loss_that_training_saw(plates):
    config = small("output.log_interval=5")
    _, trained = run(config, "random_sampling", plates)
    curves = pd.DataFrame(trained.curves, columns=["step", "set", "task", "loss"])
    val = curves[curves["set"] == "val"]
    assert val["task"].tolist() == list(TASKS)
    val_loss = [row[-1] for row in trained.metrics if row[-1] is not None]
    assert val["loss"].sum() == pytest.approx(val_loss[0], rel=1e-5)
    assert curves.loc[curves["set"] == "train", "step"].unique().tolist() == [5, 10, 15, 19]


def test_the_validation_plate_chooses_and_the_test_plate_is_never_asked(plates):
    """At a rate that spoils what was learned, an epoch before the last is scored."""
    config = small("training.num_epochs=3", "training.learning_rate=0.2")
    _, trained = run(config, "streaming", plates)
    val_losses = [row[-1] for row in trained.metrics if row[-1] is not None]
    assert trained.about["best_epoch"] == int(np.argmin(val_losses)) < 2
    assert trained.about["best_loss"] == pytest.approx(min(val_losses))
    fewer = config.model_copy(
        update={"data": config.data.model_copy(update={"max_test_cells": 50})}
    )
    _, others = run(fewer, "streaming", plates)
    assert others.metrics == trained.metrics
    assert np.array_equal(others.predicted_CT, trained.predicted_CT[:50])


def test_without_a_validation_plate_training_goes_on(plates):
    _, trained = run(small("data.val_plates=[]"), "streaming", plates)
    assert not [row for row in trained.metrics if row[-1] is not None]
    assert {row[1] for row in trained.curves} == {"train"}


def test_the_first_cells_only(plates):
    experiment, trained = run(small("data.max_train_cells=100"), "streaming", plates)
    assert trained.about["num_train_cells"] == trained.about["cells"] == 100
    # What plate 2 has of its own is unknown then, and counts as wrong.
    assert experiment.unknown["drug"]
    assert np.isfinite(trained.about["best_loss"])


def test_cells_of_other_genes_are_refused(plates, tmp_path):
    config = small("data.simulate.cells_per_plate=60", "data.simulate.num_genes=70")
    others = made(tmp_path, config, ["plates", "store"])
    mixed = {**others, "store": plates["store"]}
    with pytest.raises(InputError, match="has 80 genes, other than the 70"):
        open_experiment(config, "full_shuffle", **mixed)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.train_plates=[1]", "has plates_digest '.*'; expected '.*'"),
        ("data.train_plates=[2, 1]", "has plates_digest '.*'; expected '.*'"),
        ("data.max_train_cells=100", "has max_train_cells None; expected 100"),
    ],
)
def test_a_store_or_a_collection_of_other_cells_is_refused(plates, override, message):
    with pytest.raises(InputError, match=f"store {message}, .* Rerun shuffle_plates"):
        open_experiment(small(override), "full_shuffle", **plates)
    with pytest.raises(InputError, match=f"zarr {message}, .* Rerun collect_plates"):
        open_experiment(small(override, "backend=zarr"), "streaming", **plates)


def test_a_collection_that_does_not_say_what_it_holds_is_refused(plates, tmp_path):
    reader = open_plates([plates["plates"] / "plate1.h5ad"])
    labels = label_table(reader, ["plate", *TASKS])
    write_collection(reader, tmp_path / "own.zarr", labels, reader.genes)
    mixed = {**plates, "collection": tmp_path / "own.zarr"}
    with pytest.raises(InputError, match="has plates_digest None; expected"):
        open_experiment(small("backend=zarr"), "streaming", **mixed)


def test_what_a_backend_needs_is_asked_for(plates):
    only = {"plates": plates["plates"]}
    with pytest.raises(InputError, match="--store"):
        open_experiment(small(), "full_shuffle", **only)
    with pytest.raises(InputError, match="--collection"):
        open_experiment(small("backend=zarr"), "streaming", **only)
    with pytest.raises(InputError, match="--plates"):
        open_experiment(small(), "streaming")


def test_the_program_writes_a_folder_for_each_seed(plates, tmp_path):
    out = tmp_path / "runs"
    options = ["--strategy", "random", "--config", DEMO, "--plates", str(plates["plates"])]
    loader_experiment.main([*options, "--out", str(out), *SMALL, "training.seeds=[3, 5]"])
    assert sorted(path.name for path in out.iterdir()) == ["labels.json", "seed_3", "seed_5"]
    scores = json.loads((out / "seed_3/scores.json").read_text())
    assert (scores["strategy"], scores["seed"]) == ("random_sampling", 3)
    assert set(scores["tasks"]) == set(TASKS)
    classes = pd.read_csv(out / "seed_3/classes.tsv", sep="\t")
    assert (
        classes[classes["task"] == "drug"]["class"].tolist()
        == json.loads((out / "labels.json").read_text())["drug"]
    )


def test_an_unknown_strategy_is_answered_with_the_names(plates, capsys):
    with pytest.raises(SystemExit):
        loader_experiment.main(["--strategy", "blocks", "--out", "x"])
    assert "'blocks' is none of streaming, streaming_buffer" in capsys.readouterr().err


def test_more_than_fits_into_memory_is_partly_warm(plates, monkeypatch):
    experiment = open_experiment(small(), "streaming", **plates)
    size = sum(path.stat().st_size for path in experiment.files)
    assert room_for_files() > size
    for room, state in ((size, "warm"), (size - 1, "partly warm")):
        monkeypatch.setattr(
            "vcpipe.training.loader_experiment.room_for_files", lambda its=room: its
        )
        assert prepare_cache("warm", experiment) == state


def test_the_jobs_own_limit_counts(tmp_path, monkeypatch):
    of_job = tmp_path / "groups/slurm/job_7/step"
    of_job.mkdir(parents=True)
    (of_job / "memory.max").write_text("max\n")
    (of_job.parent / "memory.max").write_text("5000\n")
    (tmp_path / "cgroup").write_text("4:memory:/other\n0::/slurm/job_7/step\n")
    (tmp_path / "meminfo").write_text("MemTotal:  99 kB\nMemAvailable:  6 kB\n")
    module = "vcpipe.training.loader_experiment"
    monkeypatch.setattr(f"{module}.MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(f"{module}.JOB", tmp_path / "nothing")
    assert room_for_files() == 6 * 1024
    monkeypatch.setattr(f"{module}.JOB", tmp_path / "cgroup")
    monkeypatch.setattr(f"{module}.GROUPS", tmp_path / "groups")
    assert room_for_files() == 5000


def test_files_are_brought_into_memory_or_forgotten(plates, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").write_bytes(bytes(10_000))
    read_once([folder])
    experiment = replace(open_experiment(small(), "streaming", **plates), files=[folder])
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *its: asked.append(its[1:]), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    assert prepare_cache("cold", experiment) == "cold"
    assert asked == [(0, 0, 4)]
    assert (folder / "inner/file").read_bytes() == bytes(10_000)
    monkeypatch.delattr(os, "posix_fadvise")
    assert prepare_cache("cold", experiment) == "unknown"


def test_a_meter_adds_up_what_runs_between_start_and_pause(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(200_000))
    meter = Meter()
    for _ in range(2):
        meter.start()
        path.read_bytes()
        meter.pause()
        path.read_bytes()
    used = meter.consumption()
    assert used.seconds > 0
    if used.bytes_read is not None:
        assert 400_000 <= used.bytes_read < 500_000
