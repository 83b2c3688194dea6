"""Pretraining, finetuning and prediction on the tiny screen, one after the other."""

import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from tests.prepared import prepare
from vcpipe.config.eval import Prediction
from vcpipe.config.finetune import Finetune
from vcpipe.config.gears import Conversion
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.splits import Split
from vcpipe.data.gears import convert
from vcpipe.data.pairing import Pairs, pair_controls
from vcpipe.data.preprocessing_record import read_record
from vcpipe.data.screen import open_screen
from vcpipe.data.splits import control_rows, draw_controls, draw_split, training_rows
from vcpipe.errors import InputError
from vcpipe.models.scgpt import SHARED
from vcpipe.training import resident_values
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process
from vcpipe.training.finetuning import finetune
from vcpipe.training.prediction import build_generator, gene_chunks, predictions
from vcpipe.training.pretraining import pretrain
from vcpipe.training.run import locked

ALONE = Process(0, 1, torch.device("cpu"))
TRAINING = {"batch_size": 16, "max_epochs": 2}
PRETRAIN = Pretrain(
    corpus="c",
    masked_values={"mask_ratio": [0.4]},
    tokenizer={"strategy": "continuous_projection", "max_genes": 20, "truncation": "random"},
    model={"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 16, "dropout": 0.0},
    val_fraction=0.1,
    training=TRAINING,
)
FINETUNE = Finetune(
    dataset="d",
    split="s",
    pretrained="p",
    perturbation={"max_seq_len": 12},
    training=TRAINING,
)


@pytest.fixture
def split(screen):
    return draw_split(screen, Split())[0]


@pytest.fixture
def controls(screen):
    return draw_controls(screen, 1)


@pytest.fixture
def pairs(screen, controls, generator):
    control_row = pair_controls(screen, controls, "cell_type", generator)
    return Pairs(screen.path.with_name("pairs.npz"), control_row, {})


@pytest.fixture
def run_pretrain(screen, split, controls, tmp_path):
    def run(genes=None, name="base", config=PRETRAIN, rows=None):
        if rows is None:
            rows = training_rows(screen, split, controls)
        prepared = prepare(tmp_path / "corpus", screen, rows, genes)
        paths = (tmp_path / "state", tmp_path / name, tmp_path / f"{name}.csv")
        pretrain(*prepared, config, "code", ALONE, *paths)
        return read_folder(tmp_path / name)

    return run


@pytest.fixture
def run_finetune(screen, split, controls, pairs, tmp_path):
    def run(base, config=FINETUNE, name="tuned", cells=screen, pairs=pairs):
        paths = (tmp_path / f"{name}-state", tmp_path / name, tmp_path / f"{name}.csv")
        finetune(cells, split, controls, pairs, base, config, "code", ALONE, *paths)
        return read_folder(tmp_path / name)

    return run


def test_a_pretrained_folder_holds_all_that_is_needed_to_trust_it(run_pretrain, screen):
    folder = run_pretrain()
    about = folder.about
    assert read_record(folder.path / "record.json").digest == about["record_digest"]
    assert about["objective"] == "masked_values"
    assert about["config"] == PRETRAIN.model_dump(mode="json")
    assert {"config_digest", "data_digest", "vocabulary_digest", "code_version"} <= about.keys()


def test_the_same_run_twice_gives_the_same_weights(run_pretrain, tmp_path):
    first = run_pretrain(name="one")
    for path in (tmp_path / "state").rglob("*"):
        path.unlink() if path.is_file() else None
    assert run_pretrain(name="two").digest == first.digest


def test_finetuning_starts_from_every_shared_weight(run_pretrain, run_finetune):
    base = run_pretrain()
    slow = FINETUNE.model_copy(
        update={"optimizer": FINETUNE.optimizer.model_copy(update={"lr": 1e-12})}
    )
    tuned = run_finetune(base, slow)
    assert tuned.args["loaded"] == [n for n in tuned.state if n.startswith(SHARED)]
    for name in tuned.args["loaded"]:
        torch.testing.assert_close(tuned.state[name], base.state[name])


def test_what_was_loaded_is_listed_in_the_log_and_in_the_arguments(run_pretrain, run_finetune):
    base = run_pretrain()
    tuned = run_finetune(base)
    shared = {name: its for name, its in base.state.items() if name.startswith(SHARED)}
    number = sum(tensor.numel() for tensor in shared.values())
    assert tuned.args["loaded"] == [*shared]
    assert tuned.args["num_loaded_weights"] == number
    log = (tuned.path / "run.log").read_text()
    assert f"loaded {len(shared)} tensors, {number:,} weights from {base.path}\n" in log
    for name, tensor in shared.items():
        assert f"loaded {name} {tuple(tensor.shape)}\n" in log


def test_an_encoder_of_another_width_is_refused(run_pretrain, run_finetune):
    base = run_pretrain()
    wider = replace(base, model=base.model.model_copy(update={"hidden_dim": 24}))
    message = r"encoder\.embedding\.weight \(34, 16\) instead of \(34, 24\)"
    with pytest.raises(InputError, match=message):
        run_finetune(wider)


def test_a_random_twin_loads_nothing(run_pretrain, run_finetune):
    base = run_pretrain()
    twin = run_finetune(base, FINETUNE.model_copy(update={"initial_weights": "random"}))
    assert twin.args["loaded"] == []
    name = "transformer_encoder.layers.0.linear1.weight"
    assert not torch.allclose(twin.state[name], base.state[name], atol=1e-2)


def test_finetuning_never_sees_held_out_cells(
    run_pretrain, run_finetune, screen, split, controls, tmp_path
):
    """With nonsense in every cell that is held out, the finetuned weights are the same."""
    base = run_pretrain()
    poisoned = tmp_path / "poisoned.h5ad"
    shutil.copy(screen.path, poisoned)
    scoring = np.isin(screen.cells, [cell for cell, use in controls.items() if use == "scoring"])
    held_out = np.isin(screen.condition, split.conditions("test")) | scoring
    assert held_out.sum() > 20
    with h5py.File(poisoned, "r+") as file:
        starts, values = file["X/indptr"][:], file["X/data"][:]
        for row in np.flatnonzero(held_out):
            values[starts[row] : starts[row + 1]] = 1000.0
        file["X/data"][:] = values

    clean = run_finetune(base, name="clean")
    other = run_finetune(base, name="other", cells=open_screen(poisoned))

    assert all(torch.equal(clean.state[name], other.state[name]) for name in clean.state)


def test_cells_on_disk_in_memory_and_on_a_device_are_learned_from_alike(
    run_pretrain, run_finetune, monkeypatch
):
    base = run_pretrain()

    def tuned(data_on: str, name: str):
        settings = FINETUNE.perturbation.model_copy(update={"data_on": data_on})
        return run_finetune(base, FINETUNE.model_copy(update={"perturbation": settings}), name)

    first, second = tuned("host", "on_disk"), tuned("device", "in_memory")
    # What a GPU gathers is gathered here, by the same code.
    monkeypatch.setattr(resident_values, "is_queued", lambda process: True)
    third = tuned("device", "elsewhere")
    for other in (second, third):
        for name, tensor in first.state.items():
            assert torch.equal(other.state[name], tensor)
    assert "are read from" in (first.path / "run.log").read_text()
    assert "lie in the memory of cpu" in (third.path / "run.log").read_text()


def test_the_log_says_how_often_flags_were_seen(run_pretrain, run_finetune):
    lines = (run_finetune(run_pretrain()).path / "run.log").read_text().splitlines()
    seen = [line for line in lines if line.startswith("the perturbed genes were among")]
    assert len(seen) == FINETUNE.training.max_epochs
    assert all("in 100.0% of the examples" in line for line in seen)


def test_a_model_of_binned_inputs_predicts_from_bins(run_pretrain, run_finetune):
    settings = FINETUNE.perturbation.model_copy(update={"n_input_bins": 51})
    tuned = run_finetune(run_pretrain(), FINETUNE.model_copy(update={"perturbation": settings}))
    assert tuned.args["n_input_bins"] == 51
    assert build_generator(tuned, ALONE).n_input_bins == 51
    earlier = replace(tuned, args={n: a for n, a in tuned.args.items() if n != "n_input_bins"})
    assert build_generator(earlier, ALONE).n_input_bins == 0


def test_a_model_that_knows_no_perturbed_gene_is_refused(run_pretrain, run_finetune, screen):
    genes = [gene for gene in screen.genes if f"{gene}+ctrl" not in screen.condition]
    with pytest.raises(InputError, match=r"No perturbed cell is left: .*GENE\d\d\+ctrl"):
        run_finetune(run_pretrain(genes=genes))


def test_other_pairs_are_another_run(run_pretrain, run_finetune, screen, controls, pairs):
    """The state of the first run must not be taken for the second's."""
    base = run_pretrain()
    settings = FINETUNE.perturbation.model_copy(update={"control_partners": "paired_once"})
    config = FINETUNE.model_copy(update={"perturbation": settings})
    first = run_finetune(base, config)
    generator = np.random.default_rng(1)
    redrawn = pair_controls(screen, controls, "cell_type", generator)
    second = run_finetune(base, config, pairs=replace(pairs, control_row=redrawn))
    assert first.about["pairs_digest"] == pairs.digest != second.about["pairs_digest"]
    name = "transformer_encoder.layers.0.linear1.weight"
    assert not torch.equal(second.state[name], first.state[name])


def test_pairs_of_other_halves_of_the_controls_are_refused(
    run_pretrain, run_finetune, screen, pairs, generator
):
    others = pair_controls(screen, draw_controls(screen, 2), "cell_type", generator)
    with pytest.raises(InputError, match=r"pairs\.npz and the table of controls differ"):
        run_finetune(run_pretrain(), pairs=replace(pairs, control_row=others))


def test_an_encoder_that_saw_held_out_cells_is_refused(run_pretrain, run_finetune, screen, split):
    base = run_pretrain(rows=np.arange(len(screen.cells)))
    held_out = split.conditions("test")[0].replace("+", r"\+")
    with pytest.raises(InputError, match=f"was pretrained on cells of .*{held_out}"):
        run_finetune(base)


def test_an_encoder_that_saw_a_control_kept_for_scoring_is_refused(
    run_pretrain, run_finetune, screen, split, controls
):
    scoring = control_rows(screen, controls, "scoring")
    rows = np.append(training_rows(screen, split, controls), scoring[3])
    message = f"on 1 control cells that are kept for scoring: {screen.cells[scoring[3]]}"
    with pytest.raises(InputError, match=message):
        run_finetune(run_pretrain(rows=rows))


def test_a_finetuned_folder_says_what_it_and_its_base_have_seen(
    run_pretrain, run_finetune, screen, split, controls, pairs, tmp_path
):
    tuned = run_finetune(run_pretrain())
    seen = tuned.about["seen"][screen.data_digest]
    assert set(split.conditions("train")) <= set(seen["condition"])
    assert not set(split.conditions("test")) & set(seen["condition"])
    # It can be finetuned further with its split.
    run_finetune(tuned, name="again")

    def start_with(**sets):
        other = replace(split, sets=dict(split.sets))
        for name, its in sets.items():
            other.sets[split.conditions(name)[0], ""] = its
        paths = (tmp_path / "other-state", tmp_path / "other", tmp_path / "other.csv")
        finetune(screen, other, controls, pairs, tuned, FINETUNE, "code", ALONE, *paths)

    with pytest.raises(InputError, match="was pretrained on cells of GENE"):
        start_with(train="test")
    with pytest.raises(
        InputError, match=r"were chosen by GENE.*, which the split keeps for testing"
    ):
        start_with(val="test")


@pytest.mark.parametrize("seen", [["ctrl", "GENE03+ctrl"], {"condition": ["ctrl"]}])
def test_an_encoder_of_an_earlier_version_that_saw_the_screen_is_refused(
    run_pretrain, run_finetune, screen, seen
):
    base = run_pretrain()
    about = base.about | {"seen": {screen.data_digest: seen}}
    with pytest.raises(InputError, match=r"by an earlier version, .*; pretrain it again"):
        run_finetune(replace(base, args=base.args | {"vcpipe": about}))


@pytest.fixture
def of_batches(screen, controls, generator, tmp_path):
    """A split that holds batch b1 out, and a function that finetunes with it."""
    settings = {"context_key": "batch", "test_contexts": ["b1"]}
    split, _ = draw_split(screen, Split(method="held_out_context", **settings))
    control_row = pair_controls(screen, controls, "batch", generator)
    pairs = Pairs(screen.path.with_name("pairs.npz"), control_row, {})
    training = TRAINING | {"early_stopping": {"monitor": "train_loss"}}
    config = Finetune(**(FINETUNE.model_dump() | {"training": training}))

    def run(base, name="tuned", cells=screen):
        paths = (tmp_path / f"{name}-state", tmp_path / name, tmp_path / f"{name}.csv")
        finetune(cells, split, controls, pairs, base, config, "code", ALONE, *paths)
        return read_folder(tmp_path / name)

    return split, run


def test_nothing_of_a_held_out_batch_reaches_finetuning(
    run_pretrain, of_batches, screen, controls, tmp_path
):
    """With nonsense in all of its cells, the controls too, the finetuned weights are the same."""
    split, run = of_batches
    base = run_pretrain(rows=training_rows(screen, split, controls))
    poisoned = tmp_path / "poisoned.h5ad"
    shutil.copy(screen.path, poisoned)
    with h5py.File(poisoned, "r+") as file:
        starts, values = file["X/indptr"][:], file["X/data"][:]
        for row in np.flatnonzero(screen.batch == "b1"):
            values[starts[row] : starts[row + 1]] = 1000.0
        file["X/data"][:] = values

    clean, other = run(base, "clean"), run(base, "other", cells=open_screen(poisoned))

    assert all(torch.equal(clean.state[name], other.state[name]) for name in clean.state)


def test_predictions_in_a_held_out_batch_start_from_its_controls(
    run_pretrain, of_batches, screen, controls
):
    split, run = of_batches
    rows = training_rows(screen, split, controls)
    tuned = run(run_pretrain(genes=[f"GENE{i:02d}" for i in range(24)], rows=rows))
    cells, _ = predicted(screen, split, controls, tuned)
    assert sorted(cells) == sorted(set(screen.condition) - {"ctrl"})
    # Genes that the model does not know keep the control's value.
    model = np.array([controls.get(cell) == "model" for cell in screen.cells])
    allowed = screen.values(np.flatnonzero(model & (screen.batch == "b1"))).toarray()[:, 24:]
    allowed = {row.tobytes() for row in allowed}
    assert {row.tobytes() for one in cells.values() for row in one[:, 24:]} <= allowed


def test_an_encoder_that_saw_a_held_out_batch_is_refused(
    run_pretrain, of_batches, screen, controls
):
    _, run = of_batches
    controls_only = np.flatnonzero((screen.batch == "b0") | (screen.condition == "ctrl"))
    for rows in (None, controls_only):  # None: the training rows of a split of perturbations
        with pytest.raises(InputError, match="was pretrained on cells of b1, which the split"):
            run(run_pretrain(rows=rows))


def test_an_encoder_of_held_out_batches_is_refused_where_it_saw_held_out_perturbations(
    run_pretrain, run_finetune, of_batches, screen, controls
):
    base = run_pretrain(rows=training_rows(screen, of_batches[0], controls))
    with pytest.raises(InputError, match=r"was pretrained on cells of GENE.*\+ctrl, which"):
        run_finetune(base)


def test_a_vocabulary_of_other_genes_is_refused(run_pretrain, run_finetune):
    base = run_pretrain(genes=["GENE03", "GENE07", "OTHER1", "OTHER2"])
    with pytest.raises(InputError, match=r"knows 6\.7% of 30 genes; expected at least 50%"):
        run_finetune(base)


def test_a_store_of_another_vocabulary_is_refused(screen, tmp_path):
    store, _, record = prepare(tmp_path / "one", screen)
    _, names, _ = prepare(tmp_path / "other", screen, genes=[*screen.genes, "NEW"])
    with pytest.raises(InputError, match="was written with the vocabulary"):
        pretrain(
            store,
            names,
            record,
            PRETRAIN,
            "code",
            ALONE,
            tmp_path / "state",
            tmp_path / "out",
            tmp_path / "out.csv",
        )


def predicted(screen, split, controls, folder, **config):
    config = Prediction(**({"num_cells": 5, "batch_size": 2} | config))
    cells, about = predictions(screen, split, controls, folder.path, config, devices=0)
    return {one.condition: one.values_CG for one in cells}, about


def test_a_model_of_another_split_is_refused(run_pretrain, run_finetune, screen, controls):
    tuned = run_finetune(run_pretrain())
    other = draw_split(screen, Split(seed=2))[0]
    with pytest.raises(InputError, match="may have been trained on there"):
        predicted(screen, other, controls, tuned)


def test_the_same_counts_on_another_scale_are_another_run(
    run_pretrain, run_finetune, screen, split, controls, tmp_path
):
    """The state of the first run must not be taken for the second's, nor its model used there."""
    base = run_pretrain()
    first = run_finetune(base, name="tuned")
    rescaled = tmp_path / "rescaled.h5ad"
    config = Conversion(normalisation={"target_sum": 100.0})
    convert(tmp_path / "counts.h5ad", "tiny", config, rescaled)
    other = open_screen(rescaled)
    assert other.data_digest == screen.data_digest

    second = run_finetune(base, name="tuned", cells=other)

    name = "decoder.bias_decoder.fc.4.bias"
    assert not torch.equal(second.state[name], first.state[name])
    with pytest.raises(InputError, match=r"whose target_sum is 100\.0, but that of .* is 10000\.0"):
        predicted(screen, split, controls, second)


def test_every_held_out_perturbation_is_predicted(
    run_pretrain, run_finetune, screen, split, controls
):
    tuned = run_finetune(run_pretrain())
    cells, about = predicted(screen, split, controls, tuned)
    assert sorted(cells) == sorted(split.conditions("test"))
    for values_CG in cells.values():
        assert values_CG.shape == (5, 30)
        assert np.isfinite(values_CG).all()
        assert (values_CG >= 0).all()
    assert about["data_digest"] == screen.data_digest
    assert about["config_digest"] == tuned.about["config_digest"]


def test_predictions_do_not_depend_on_the_batch_size(
    run_pretrain, run_finetune, screen, split, controls
):
    tuned = run_finetune(run_pretrain())
    one, _ = predicted(screen, split, controls, tuned, batch_size=1)
    five, _ = predicted(screen, split, controls, tuned, batch_size=5)
    for condition in one:
        np.testing.assert_allclose(one[condition], five[condition], atol=1e-5)


def test_genes_unknown_to_the_model_keep_the_controls_value_and_are_reported(
    run_pretrain, run_finetune, screen, split, controls
):
    tuned = run_finetune(run_pretrain(genes=[f"GENE{i:02d}" for i in range(24)]))
    cells, about = predicted(screen, split, controls, tuned)
    unknown = np.isin(screen.genes, [f"GENE{i:02d}" for i in range(24, 30)])
    rows = {row.tobytes() for row in screen.values(slice(None)).toarray()[:, unknown]}
    for values_CG in cells.values():
        assert {row.tobytes() for row in values_CG[:, unknown]} <= rows
    assert about["notes"][0] == "24 of 30 genes are predicted"


def test_genes_that_the_model_is_shown_as_pad_are_predicted(
    run_pretrain, run_finetune, screen, split, controls
):
    settings = FINETUNE.perturbation.model_copy(update={"unknown_genes": "pad"})
    tuned = run_finetune(
        run_pretrain(genes=[f"GENE{i:02d}" for i in range(24)]),
        FINETUNE.model_copy(update={"perturbation": settings}),
    )
    assert "6 genes without a token are shown as <pad>" in (tuned.path / "run.log").read_text()
    cells, about = predicted(screen, split, controls, tuned)
    assert about["notes"] == ["30 of 30 genes are predicted"]
    rows = {row.tobytes() for row in screen.values(slice(None)).toarray()[:, 24:]}
    for values_CG in cells.values():
        assert not {row.tobytes() for row in values_CG[:, 24:]} & rows


@pytest.fixture
def renamed(screen, split, monkeypatch):
    """A perturbed gene of test that the vocabulary knows by a newer name, and that vocabulary."""
    old = split.conditions("test")[0].removesuffix("+ctrl")
    aliases = {old: ("RENAMED1",), "RENAMED1": ("RENAMED1",)}
    monkeypatch.setattr("vcpipe.training.finetuning.read_aliases", lambda: aliases)
    return old, ["RENAMED1" if gene == old else gene for gene in screen.genes]


def test_a_renamed_gene_has_its_token_in_training_and_in_prediction(
    run_pretrain, run_finetune, screen, split, controls, renamed
):
    old, genes = renamed
    tuned = run_finetune(run_pretrain(genes=genes))
    assert tuned.about["renamed_genes"] == {old: "RENAMED1"}
    assert "RENAMED1" in tuned.vocabulary.ids
    assert old not in tuned.vocabulary.ids
    _, about = predicted(screen, split, controls, tuned)
    assert about["notes"] == ["30 of 30 genes are predicted"]


def test_without_aliases_a_renamed_gene_is_unknown(
    run_pretrain, run_finetune, screen, split, controls, renamed
):
    old, genes = renamed
    exact = FINETUNE.perturbation.model_copy(update={"gene_aliases": False})
    tuned = run_finetune(
        run_pretrain(genes=genes), FINETUNE.model_copy(update={"perturbation": exact})
    )
    assert tuned.about["renamed_genes"] == {}
    _, about = predicted(screen, split, controls, tuned)
    assert about["notes"][0] == "29 of 30 genes are predicted"
    assert old in about["notes"][1]


def test_a_folder_that_was_not_finetuned_cannot_predict(run_pretrain, screen, split, controls):
    with pytest.raises(InputError, match="was not made by finetune_perturbation"):
        predicted(screen, split, controls, run_pretrain())


@pytest.mark.parametrize(("num_genes", "length"), [(10, 20), (30, 12), (31, 5)])
def test_chunks_cover_every_gene_and_hold_the_targets(num_genes, length, generator):
    chunks = gene_chunks(num_genes, [3, 7], length, generator)
    assert set(np.concatenate(chunks)) == set(range(num_genes))
    for chunk in chunks:
        assert len(chunk) <= length
        assert {3, 7} <= set(chunk)
        assert len(set(chunk)) == len(chunk)


def test_two_processes_never_train_the_same_run(tmp_path):
    with locked(tmp_path / "lock"), pytest.raises(InputError, match=r"in use by another process"):
        locked(tmp_path / "lock")
    locked(tmp_path / "lock").close()
