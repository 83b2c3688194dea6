"""What of a pretrained model moves, which weights are kept, and what a changed run is told."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from vcpipe.config.finetune import Finetune
from vcpipe.config.model import Transformer
from vcpipe.config.splits import Split
from vcpipe.data.pairing import Pairs, pair_controls
from vcpipe.data.splits import draw_controls, draw_split
from vcpipe.data.vocabulary import build_vocabulary
from vcpipe.errors import InputError, Interrupted
from vcpipe.models.scgpt import SHARED, MaskedValueModel
from vcpipe.objectives.perturbation import perturbation
from vcpipe.training.checkpoints import read_folder, write_folder
from vcpipe.training.distributed import Process
from vcpipe.training.finetuning import OBJECTIVES, finetune

ALONE = Process(0, 1, torch.device("cpu"))
SIZE = Transformer(hidden_dim=8, num_layers=2, num_heads=2, ffn_dim=8, dropout=0.0)
VALUES = {
    "dataset": "d",
    "split": "s",
    "pretrained": "p",
    "perturbation": {"max_seq_len": 12, "val_cells": 4},
    "optimizer": {"lr": 0.01},
    "training": {"batch_size": 16, "max_epochs": 2, "log_every_n_steps": 1},
}
OTHERS = ["NOTHERE1", "NOTHERE2", "NOTHERE3"]
TABLE = "encoder.embedding.weight"


@pytest.fixture
def split(screen):
    """Two perturbations each of train and val, one of test."""
    table, _ = draw_split(screen, Split())
    sets = {"GENE03": "val", "GENE07": "train", "GENE11": "train", "GENE19": "test"}
    table.sets.update(
        {(f"{gene}+ctrl", ""): its for gene, its in (sets | {"GENE23": "val"}).items()}
    )
    return table


@pytest.fixture
def base(screen, tmp_path):
    """A folder with random weights that knows more genes than the screen has."""
    vocabulary = build_vocabulary([*screen.genes, *OTHERS], ["<pad>", "<cls>", "<eoc>"])
    torch.manual_seed(5)
    state = MaskedValueModel(SIZE, len(vocabulary), vocabulary.ids["<pad>"]).state_dict()
    (tmp_path / "run.log").write_text("")
    write_folder(tmp_path / "base", state, SIZE, vocabulary, {}, {}, tmp_path / "run.log")
    return read_folder(tmp_path / "base")


@pytest.fixture
def tune(screen, split, base, generator, tmp_path):
    controls = draw_controls(screen, 1)
    control_row = pair_controls(screen, controls, "cell_type", generator)
    pairs = Pairs(screen.path.with_name("pairs.npz"), control_row, {})

    def run(name="tuned", state="state", cells=screen, **changes):
        config = Finetune.model_validate(VALUES | changes)
        paths = (tmp_path / state, tmp_path / name, tmp_path / f"{name}.csv")
        finetune(cells, split, controls, pairs, base, config, "code", ALONE, *paths)
        return read_folder(tmp_path / name)

    return run


def stopping_at(update: int):
    """The objective, and a signal to stop at its n-th call in training."""
    calls = []

    def stopping(model, batch, config, generator):
        calls.append(model.training)
        if sum(calls) == update:
            signal.raise_signal(signal.SIGTERM)
        return perturbation(model, batch, config, generator)

    return stopping


def moved(folder, base) -> set[str]:
    """Names of the shared weights that are not the base's."""
    return {
        name
        for name, its in folder.state.items()
        if name.startswith(SHARED) and not torch.equal(its, base.state[name])
    }


def test_the_whole_table_is_written_and_rows_of_other_genes_are_those_of_the_base(tune, base):
    tuned = tune(perturbation={"max_seq_len": 40})
    assert tuned.state[TABLE].shape == base.state[TABLE].shape
    same = (tuned.state[TABLE] == base.state[TABLE]).all(1)
    names = {name for name, number in base.vocabulary.ids.items() if same[number]}
    assert names == {*OTHERS, "<pad>", "<cls>", "<eoc>"}


def test_frozen_weights_stay_and_the_others_move(tune, base):
    frozen = ["encoder.embedding.", "value_encoder.", "transformer_encoder.layers.0."]
    found = moved(tune(freeze=frozen), base)
    assert found == {
        name
        for name in base.state
        if name.startswith(SHARED) and not name.startswith(tuple(frozen))
    }


def test_with_lora_only_the_changed_matrices_of_the_base_are_others(tune, base):
    found = moved(tune(lora={"rank": 2}), base)
    layers = [f"transformer_encoder.layers.{number}." for number in range(2)]
    matrices = ("linear1.weight", "linear2.weight", "self_attn.out_proj.weight")
    assert found == {
        f"{layer}{name}" for layer in layers for name in (*matrices, "self_attn.in_proj_weight")
    }


def test_a_lora_run_that_was_stopped_ends_as_one_that_was_not(tune, monkeypatch):
    expected = tune(lora={"rank": 2, "dropout": 0.2})
    with monkeypatch.context() as context:
        context.setitem(OBJECTIVES, "perturbation", stopping_at(3))
        with pytest.raises(Interrupted):
            tune(state="stopped", lora={"rank": 2, "dropout": 0.2})
    again = tune("again", "stopped", lora={"rank": 2, "dropout": 0.2})
    assert all(torch.equal(again.state[name], its) for name, its in expected.state.items())


def test_a_score_of_val_perturbations_decides_which_weights_are_kept(tune, tmp_path):
    training = VALUES["training"] | {"max_epochs": 4}
    for monitor in ("val_delta_pearson", "val_discrimination"):
        its = training | {"early_stopping": {"monitor": monitor}}
        tuned = tune(monitor, f"{monitor}-state", training=its)
        rows = np.genfromtxt(tmp_path / f"{monitor}.csv", delimiter=",", names=True)
        values = rows[monitor][np.isfinite(rows[monitor])]
        assert len(values) == 4
        assert tuned.about["best_score"] == pytest.approx(values.max())
        assert tuned.about["best_epoch"] == values.argmax()
        assert "best_loss" not in tuned.about


def test_weighted_errors_learn_something_else_and_val_loss_stays_comparable(tune, tmp_path):
    plain, slow = {"max_seq_len": 12}, {"optimizer": {"lr": 1e-12}}
    weighted = plain | {"delta_weight": 5.0}
    one, other = (
        tune(name, f"{name}-state", perturbation=its)
        for name, its in (("a", plain), ("b", weighted))
    )
    assert not torch.equal(one.state[TABLE], other.state[TABLE])
    losses = []
    for name, its in (("c", plain), ("d", weighted)):
        tune(name, f"{name}-state", perturbation=its, **slow)
        rows = np.genfromtxt(tmp_path / f"{name}.csv", delimiter=",", names=True)
        losses.append((rows["val_loss"][-1], rows["train_loss"][-1]))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)
    assert losses[0][1] != pytest.approx(losses[1][1], rel=1e-4)


def test_several_seeds_are_several_runs(tune):
    with pytest.raises(InputError, match=r"seeds is \[0, 1\] .*expected one of them"):
        tune(seeds=[0, 1])


def test_a_stopped_run_of_other_settings_or_data_is_named_with_what_changed(
    tune, monkeypatch, screen, tmp_path
):
    with monkeypatch.context() as context:
        context.setitem(OBJECTIVES, "perturbation", stopping_at(1))
        with pytest.raises(Interrupted):
            tune()
    with pytest.raises(InputError, match=r"config\.optimizer\.lr was 0\.01 and is 0\.02\. To go"):
        tune(optimizer={"lr": 0.02})
    other = replace(screen, about=screen.about | {"data_digest": "another"})
    with pytest.raises(InputError, match=r'data\.data_digest was "\w+" and is "another"'):
        tune(cells=other)
    tune()
    # A run that has ended is in nobody's way.
    tune(optimizer={"lr": 0.02})
