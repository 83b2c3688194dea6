"""What a classifier learns depends on how cells are mixed, and what loading took is measured."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from scripts import collect_plates, loader_experiment, shuffle_plates
from vcpipe.config.loader import TASKS, Loader
from vcpipe.config.reading import PROJECT, read_section, settings
from vcpipe.data.loading.zarr_writing import write_collection
from vcpipe.data.plates import label_table, open_plates
from vcpipe.data.simulated_plates import write_plates
from vcpipe.errors import InputError
from vcpipe.evaluation.classification import score_tasks
from vcpipe.training.consumption import Meter, forget_files, read_once
from vcpipe.training.distributed import Process
from vcpipe.training.loader_experiment import (
    entropy_bits,
    open_experiment,
    prepare_cache,
    run_seed,
)

ALONE = Process(0, 1, torch.device("cpu"))
DEMO = str(PROJECT / "config/loader/demo.yaml")
SMALL = (
    "data.simulate={num_plates: 4, cells_per_plate: 300, num_genes: 80, num_drugs: 9, num_moas: 4}",
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
    """With a rate that spoils the second epoch, the first one is scored."""
    config = small("training.num_epochs=3")
    _, trained = run(config, "streaming", plates)
    val_losses = [row[-1] for row in trained.metrics if row[-1] is not None]
    assert trained.about["best_epoch"] == int(np.argmin(val_losses))
    assert trained.about["best_loss"] == pytest.approx(min(val_losses))
    _, others = run(small("training.num_epochs=3", "data.max_test_cells=50"), "streaming", plates)
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


def test_files_are_brought_into_memory_or_forgotten(plates, tmp_path):
    assert prepare_cache("warm", open_experiment(small(), "streaming", **plates)) == "warm"
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").write_bytes(bytes(10_000))
    read_once([folder])
    assert forget_files([folder]) in (True, False)
    assert (folder / "inner/file").read_bytes() == bytes(10_000)


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
