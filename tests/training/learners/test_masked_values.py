"""Pretraining with every part of scGPT's objective, on the tiny screen."""

import json

import numpy as np
import pytest
import torch

from tests.prepared import prepare
from vcpipe.config.pretrain import Pretrain
from vcpipe.errors import InputError
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process
from vcpipe.training.learners.learner import PreparedCells
from vcpipe.training.learners.masked_values import masked_values
from vcpipe.training.pretraining import pretrain

ALONE = Process(0, 1, torch.device("cpu"))
SETTINGS = {
    "corpus": "c",
    "masked_values": {
        "attention": "generative",
        **{f"{part}_weight": 0.1 for part in ("mvc", "gen", "ecs", "dar", "cce")},
        "gen_from_update": 4,
    },
    "tokenizer": {"max_genes": 20, "truncation": "random"},
    "model": {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 16, "dropout": 0.1},
    "val_fraction": 0.1,
    "training": {"batch_size": 16, "max_epochs": 3},
    "optimizer": {"lr": 1e-3},
}


def test_all_parts_are_learned_together_and_their_heads_are_kept(screen, tmp_path):
    prepared = prepare(tmp_path / "corpus", screen)
    paths = tmp_path / "state", tmp_path / "out", tmp_path / "metrics.csv"
    progress = pretrain(*prepared, Pretrain(**SETTINGS), "code", ALONE, *paths)
    losses = [row[5] for row in progress.rows if row[5] is not None]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    folder = read_folder(tmp_path / "out")
    heads = {name.partition(".")[0] for name in folder.state}
    assert {"flag_encoder", "mvc_decoder", "grad_reverse_discriminator"} < heads
    assert len(folder.state["grad_reverse_discriminator.out_layer.bias"]) == 2
    args = json.loads((tmp_path / "out/args.json").read_text())
    assert (args["training_tasks"], args["MVC"], args["no_cls"], args["no_cce"]) == (
        *("gen", True, True, False),
    )


def test_one_class_is_nothing_to_tell_apart(screen, tmp_path):
    cells = PreparedCells(*prepare(tmp_path / "corpus", screen))
    config = Pretrain(**(SETTINGS | {"masked_values": {"cls_weight": 1}}))
    with pytest.raises(InputError, match=r"cls_weight is 1.0, and the corpus knows 1 cell_type"):
        masked_values(cells, config, np.empty)


def test_only_parts_that_compare_cells_wait_for_the_other_processes(screen, tmp_path):
    cells = PreparedCells(*prepare(tmp_path / "corpus", screen))
    for part, compares in (("mvc", False), ("gen", False), ("ecs", True), ("cce", True)):
        config = Pretrain(**(SETTINGS | {"masked_values": {f"{part}_weight": 1}}))
        assert masked_values(cells, config, np.empty).compares_cells == compares
