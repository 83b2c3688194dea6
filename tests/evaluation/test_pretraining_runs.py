"""Finished runs side by side: the table says what their own files say."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from scripts import compare_pretraining
from tests.prepared import prepare
from vcpipe.config.pretrain import Pretrain
from vcpipe.errors import InputError
from vcpipe.evaluation.pretraining_runs import comparison, read_run
from vcpipe.evaluation.training_logs import read_logs
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process
from vcpipe.training.pretraining import pretrain

SETTINGS = {
    "corpus": "c",
    "model": {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16},
    "val_fraction": 0.2,
    "training": {"batch_size": 16, "max_epochs": 2, "log_every_n_steps": 1},
}
OBJECTIVES = {
    "values": {"tokenizer": {"max_genes": 20}},
    "genes": {
        "objective": "masked_genes",
        "tokenizer": {"strategy": "rank_value", "max_genes": 20},
    },
}


@pytest.fixture
def runs(screen, tmp_path):
    """Folders and logs of two finished runs, by name."""
    prepared = prepare(tmp_path / "corpus", screen)
    made = {}
    for name, settings in OBJECTIVES.items():
        out = tmp_path / "pretrain" / name
        paths = tmp_path / "state" / name, out / "checkpoint", out / "metrics.csv"
        alone = Process(0, 1, torch.device("cpu"))
        pretrain(*prepared, Pretrain(**(SETTINGS | settings)), "code", alone, *paths)
        made[name] = paths[1:]
    return made


def test_looks_at_val_cells_within_an_epoch_are_no_epochs_and_none_are_needed(runs):
    folder, log_path = runs["values"]
    run = read_run(folder, read_logs([log_path]).popitem()[1])
    within = pd.DataFrame({"step": [2], "epoch": [0], "val_loss": [1.0]})
    log = pd.concat([run.log, within], ignore_index=True)
    assert comparison([replace(run, log=log)])["epochs"].tolist() == [2]
    without = run.log.assign(val_loss=float("nan"))
    assert (
        comparison([replace(run, log=without)])[["first_val_loss", "best_val_loss"]]
        .isna()
        .all(None)
    )


def test_the_table_has_a_row_for_each_run_with_what_its_files_say(runs, tmp_path, capsys):
    folders, logs = zip(*runs.values(), strict=True)
    out, curves = tmp_path / "comparison.csv", tmp_path / "curves.svg"
    compare_pretraining.main(
        [
            *("--runs", *map(str, folders), "--logs", *map(str, logs)),
            *("--out", str(out), "--curves", str(curves)),
        ]
    )
    table = pd.read_csv(out).set_index("run")
    assert table.index.tolist() == ["genes", "values"]
    assert table["objective"].tolist() == ["masked_genes", "masked_values"]
    assert (table["cells"] == 96).all()
    assert (table["val_cells"] == 24).all()
    assert (table["epochs"] == 2).all()
    assert (table["steps"] == 12).all()
    assert (table["cells_per_second"] > 0).all()
    for name, (folder, path) in runs.items():
        weights = read_folder(folder).state
        assert table.loc[name, "parameters"] == sum(its.numel() for its in weights.values())
        log = pd.read_csv(path)
        val = log["val_loss"].dropna()
        assert table.loc[name, "first_val_loss"] == pytest.approx(val.iloc[0], rel=1e-5)
        assert table.loc[name, "best_val_loss"] == pytest.approx(val.min(), rel=1e-5)
        assert table.loc[name, "first_train_loss"] == pytest.approx(
            log["train_loss"].iloc[0], rel=1e-5
        )
        assert table.loc[name, "last_train_loss"] == pytest.approx(
            log["train_loss"].iloc[-1], rel=1e-5
        )
    assert "genes: masked_genes" in curves.read_text()
    assert "2 runs -> " in capsys.readouterr().out


def test_a_folder_that_does_not_say_what_it_learned_is_refused(runs):
    folder, path = runs["genes"]
    (folder / "run.log").write_text("epoch 1/1\n")
    log = read_logs([path])["pretrain/genes"]
    with pytest.raises(InputError, match=r"genes/checkpoint does not say what it learned"):
        read_run(folder, log)


def test_no_run_is_no_comparison():
    with pytest.raises(InputError, match="no run to compare; expected some under pretrain"):
        comparison([])
