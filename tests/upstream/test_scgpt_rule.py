"""The rule verify_scgpt through Snakemake, with the real scgpt 0.2.4 alone in our own Python."""

import json
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import Workflow, copy_of_the_project

pytestmark = pytest.mark.upstream

TARGET = "results/verify_scgpt/tiny_model/parity.json"


@pytest.fixture
def workflow(tmp_path) -> Workflow:
    return copy_of_the_project(tmp_path / "project")


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
    python = env / "bin/python"
    paths = f"{site}:{package.parent}"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="{paths}:$PYTHONPATH" exec {sys.executable} -W ignore "$@"\n'
    )
    python.chmod(0o755)


def test_a_finetuned_folder_is_verified_in_an_env_of_its_own(workflow, scgpt):
    done = workflow.run("results/predict_samples/tiny_model/samples.npz", TARGET, check=False)
    # Where the env is not there, it is said how to make it.
    assert done.returncode != 0
    log = workflow.folder / "results/logs/verify_scgpt/tiny_model.log"
    assert "make env NAME=scgpt" in done.stdout + done.stderr + log.read_text()
    assert not (workflow.folder / TARGET).exists()

    put_scgpt_alone_into(workflow.folder / ".venvs", Path(scgpt.__path__[0]))
    workflow.run(TARGET)
    parity = json.loads((workflow.folder / TARGET).read_text())
    assert parity["max_abs_difference"] <= 1e-5
    assert parity["correlation"] > 0.999999
    assert parity["tensors_loaded"] == 9 + 12 + 1 + 12 + 10
    assert parity["versions"]["scgpt"] == "0.2.4"
    assert parity["num_cells"] == 4 * len(parity["conditions"])

    workflow.run(TARGET, "--report", "results/report.html")
    assert "parity.json" in (workflow.folder / "results/report.html").read_text()
