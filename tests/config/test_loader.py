"""Settings of the loading experiment: the seed's keys, what they become, and what is refused."""

import pytest

from vcpipe.config.loader import STRATEGIES, Loader, plate_numbers
from vcpipe.config.reading import PROJECT, read_pipeline, read_section, read_yaml, settings
from vcpipe.errors import InputError

# configs/default.yaml of scDataset's training experiments.
SEED = {
    "data": {"h5ad_dir": "/path/to/h5ad/files", "label_dir": None},
    "training": {"batch_size": 64, "num_epochs": 1, "learning_rate": 0.001},
    "scdataset": {"fetch_factor": 256, "num_workers": 8},
    "weights": {"min_count_baseline": 1000},
    "strategies": {
        "streaming": {"enabled": True, "shuffle": False},
        "streaming_buffer": {"enabled": True, "shuffle": True},
        "block_shuffling": {"enabled": True, "block_size": 16},
        "random_sampling": {"enabled": True, "block_size": 1},
        "block_weighted": {"enabled": True, "block_size": 16},
        "true_weighted": {"enabled": True, "block_size": 1},
    },
    "output": {"save_dir": "./results", "log_interval": 100},
}


def loader(*overrides: str) -> Loader:
    return read_section(Loader, settings(Loader(**SEED)), overrides)


def test_the_file_of_scdatasets_experiments_is_taken_as_it_is():
    found = Loader(**SEED)
    assert found.data.h5ad_dir == "/path/to/h5ad/files"
    assert found.training.learning_rate == 0.001
    assert found.strategies.enabled() == list(STRATEGIES)


def test_our_default_file_has_every_key_of_the_seeds():
    ours = read_yaml(PROJECT / "config/loader/default.yaml")

    def check(seed: dict, its: dict) -> None:
        for key, value in seed.items():
            if isinstance(value, dict):
                check(value, its[key])
            else:
                assert its[key] == value

    check(SEED, ours)


@pytest.mark.parametrize("name", ["default", "pilot", "demo"])
def test_the_files_that_ship_are_whole(name):
    pipeline, _ = read_pipeline(values={"loader": {"from": f"config/loader/{name}.yaml"}})
    data = pipeline.loader.data
    assert not {*data.train_plates} & {*data.val_plates, *data.test_plates}
    assert len(pipeline.loader.training.seeds) >= 3


def test_the_pilot_is_the_seeds():
    data = loader_of("pilot").data
    assert (data.train_plates, data.test_plates) == ([1], [14])
    assert (data.max_train_cells, data.max_test_cells) == (100_000, 50_000)


def loader_of(name: str) -> Loader:
    return read_section(Loader, str(PROJECT / f"config/loader/{name}.yaml"))


def test_a_run_takes_another_file_and_settings_from_the_command_line():
    pipeline, origins = read_pipeline(
        values={"loader": {"from": "config/loader/default.yaml"}},
        overrides=["loader.from=config/loader/pilot.yaml", "loader.data.max_train_cells=5000"],
    )
    assert pipeline.loader.data.train_plates == [1]
    assert pipeline.loader.data.max_train_cells == 5000
    assert "pilot.yaml" in origins["loader.data.max_test_cells"]


def test_strategies_become_orders_of_the_loader():
    config = loader("scdataset.fetch_factor=32", "weights.min_count_baseline=7")
    found = {name: config.loading(name) for name in STRATEGIES}
    assert {its.fetch_factor for its in found.values()} == {32}
    for name in STRATEGIES[:-1]:
        assert found[name].strategy == name
    assert found["full_shuffle"].strategy == "block_shuffling"
    assert found["full_shuffle"].block_size is None
    assert found["block_shuffling"].block_size == 16
    for name in ("block_weighted", "true_weighted"):
        assert found[name].weight_by == ["cell_line", "drug"]
        assert found[name].min_count_baseline == 7
    assert found["true_weighted"].block_size == 1
    assert found["streaming"].weight_by == []


def test_training_is_adam_at_one_rate_and_every_epoch_is_run():
    optimizer, scheduler, training = loader("training.num_epochs=3").fitting(seed=4)
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adam", 0.001, 0)
    assert scheduler.name == "constant"
    assert (training.max_epochs, training.seed, training.gradient_clip) == (3, 4, None)
    assert training.early_stopping.patience >= 3
    assert training.early_stopping.monitor == "val_loss"
    without = loader("data.val_plates=[]").fitting(seed=4)[2]
    assert without.early_stopping.monitor == "train_loss"


def test_full_shuffle_reads_our_store_whatever_the_others_read():
    config = loader("backend=zarr")
    assert config.backend_of("streaming") == "zarr"
    assert config.backend_of("full_shuffle") == "store"


def test_a_strategys_settings_leave_the_others_out():
    config = loader("strategies.block_weighted.block_size=8", "strategies.streaming.enabled=false")
    assert config.only("block_weighted") == loader("strategies.block_weighted.block_size=8").only(
        "block_weighted"
    )
    assert config.only("streaming") != config.only("block_weighted")


@pytest.mark.parametrize(
    ("override", "concerns"),
    [
        ("weights.min_count_baseline=7", {"block_weighted", "true_weighted"}),
        ("backend=zarr", {*STRATEGIES} - {"full_shuffle"}),
        ("strategies.full_shuffle.block_size=8", {"full_shuffle"}),
        ("scdataset.fetch_factor=4", {*STRATEGIES}),
    ],
)
def test_a_setting_concerns_the_strategies_that_read_it(override, concerns):
    before, after = loader(), loader(override)
    assert {name for name in STRATEGIES if before.only(name) != after.only(name)} == concerns
    for name in STRATEGIES:
        assert after.only(name).loading(name) == after.loading(name)
        assert after.only(name).backend_of(name) == after.backend_of(name)


def test_files_are_called_after_plates():
    assert plate_numbers("plate14_filt_Vevo_Tahoe100M.h5ad") == {14}
    assert plate_numbers("Plate_03.h5ad") == {3}
    assert plate_numbers("templates.h5ad") == set()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("output.save_dir=elsewhere", "Snakemake names the folders"),
        ("strategies.streaming.shuffle=true", "it is streaming_buffer"),
        ("strategies.streaming_buffer.shuffle=false", "it is streaming"),
        ("strategies.random_sampling.block_size=2", "larger blocks are block_shuffling"),
        ("strategies.true_weighted.block_size=2", "larger blocks are"),
        ("data.simulate={}", "expected exactly one of h5ad_dir, simulate"),
        ("data.h5ad_dir=null", "has no source"),
        ("data.val_plates=[14]", "plate 14 stands more than once"),
        ("training.seeds=[1, 1]", "the same run twice is one"),
        ("training.input=tokens", "expected 'counts' or 'log1p'"),
        ("scdataset.num_workers=0", "greater than or equal to 1"),
        ("strategies.streaming.block_size=4", "block_size is not a setting"),
    ],
)
def test_what_is_wrong_is_named_with_its_reason(override, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        loader(override)


def test_all_strategies_disabled_is_refused():
    with pytest.raises(InputError, match="all are disabled"):
        loader(*(f"strategies.{name}.enabled=false" for name in STRATEGIES))


def test_simulated_plates_must_exist_and_hold_drugs():
    simulated = ("data.h5ad_dir=null", "data.train_plates=[1]", "data.val_plates=[2]")
    with pytest.raises(InputError, match=r"expected 1 to 4, as simulate\.num_plates says"):
        loader(*simulated, "data.simulate={num_plates: 4}", "data.test_plates=[5]")
    with pytest.raises(InputError, match="num_drugs is 4 and common_drugs 3"):
        loader(*simulated, "data.simulate={num_drugs: 4, num_moas: 3}", "data.test_plates=[3]")
