"""The rule verify_scgpt through Snakemake, with the real scgpt 0.2.4 alone in our own Python."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import TINY, Workflow, copy_of_the_project
from vcpipe.config.model import Transformer
from vcpipe.data.vocabulary import PAD, build_vocabulary
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.training.checkpoints import write_folder

pytestmark = pytest.mark.upstream

TARGET = "results/verify_scgpt/tiny_model/parity.json"
SIZE = Transformer(hidden_dim=16, num_layers=1, num_heads=2, ffn_dim=16, dropout=0.0)


@pytest.fixture
def workflow(counts, tmp_path) -> Workflow:
    """A screen and a pretrained folder of a user's own, and nothing run yet."""
    workflow = copy_of_the_project(tmp_path / "project")
    counts.write_h5ad(tmp_path / "counts.h5ad")
    vocabulary = build_vocabulary(counts.var_names[counts.var_names != "GENE05"], [PAD, "<cls>"])
    state = MaskedValueModel(SIZE, len(vocabulary), vocabulary.ids[PAD]).state_dict()
    (tmp_path / "run.log").touch()
    write_folder(tmp_path / "base", state, SIZE, vocabulary, {}, {}, tmp_path / "run.log")
    run = {
        "dataset": "tiny",
        "split": "all",
        "pretrained": str(tmp_path / "base"),
        "perturbation": {"unknown_genes": "pad", "max_seq_len": 20},
        "training": {"batch_size": 16, "max_epochs": 1},
    }
    run["training"]["early_stopping"] = {"monitor": "train_loss"}
    config = {
        "datasets": {"tiny": {"path": str(tmp_path / "counts.h5ad")}},
        "splits": {"all": {"method": "no_split"}},
        "finetune": {"tiny_model": run},
        "eval": {"verification": {"num_conditions": 3}},
    }
    (workflow.folder / TINY).write_text(yaml.safe_dump(config))
    return workflow


def put_scgpt_alone_into(venvs: Path, package: Path) -> None:
    """An env in which scgpt's modules are found, and a vocabulary in place of torchtext's."""
    env, site = venvs / "scgpt", venvs / "scgpt/site"
    for folder in (env / "bin", site / "scgpt", site / "torchtext"):
        folder.mkdir(parents=True)
    (env / "installed.lock").touch()
    # Its own __init__ imports plots and data banks, which nothing here needs.
    (site / "scgpt/__init__.py").write_text(
        f"import logging\n\n__path__ = [{str(package)!r}]\nlogger = logging.getLogger('scGPT')\n"
    )
    (site / "torchtext/__init__.py").touch()
    (site / "torchtext/vocab.py").write_text(
        "from tests.upstream.scgpt_alone import Vocab, vocab\n"
    )
    paths, python = f"{site}:{package.parent}", env / "bin/python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="{paths}:$PYTHONPATH" exec {sys.executable} -W ignore "$@"\n'
    )
    python.chmod(0o755)


def test_a_finetuned_folder_is_verified_in_an_env_of_its_own(workflow, scgpt):
    done = workflow.run(TARGET, check=False)
    assert done.returncode != 0
    log = workflow.folder / "results/logs/verify_scgpt/tiny_model.log"
    assert "make env NAME=scgpt" in done.stdout + done.stderr + log.read_text()
    assert not (workflow.folder / TARGET).exists()

    put_scgpt_alone_into(workflow.folder / ".venvs", Path(scgpt.__path__[0]))
    workflow.run(TARGET)
    workflow.run(TARGET, "--report", "results/report.html")
    parity = json.loads((workflow.folder / TARGET).read_text())
    assert parity["max_abs_difference"] <= 1e-5
    assert parity["correlation"] > 0.999999
    assert parity["tensors_loaded"] == 9 + 12 + 1 + 12 + 10
    assert parity["versions"]["scgpt"] == "0.2.4"
    assert parity["num_cells"] == 12
    assert "parity.json" in (workflow.folder / "results/report.html").read_text()
