"""What reruns when the files of an atlas change, and what does not."""

import os
import time

import pytest

from tests.workflow.conftest import ATLAS, Workflow, copy_of_the_project
from tests.workflow.tiny_atlas import write_atlas

RESULTS = "results/check_corpus/cells", "results/pretrain/cells_masked/checkpoint"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workflow:
    """The corpus of tests/workflow/atlas.yaml and a run on it have been made, once."""
    workflow = copy_of_the_project(tmp_path_factory.mktemp("atlas") / "project")
    write_atlas(workflow.folder / "atlas")
    workflow.run(*RESULTS, config=ATLAS)
    return workflow


def planned(workflow: Workflow, *arguments: str) -> dict[str, int]:
    return workflow.planned(*arguments, target=RESULTS, config=ATLAS)


def test_a_touched_file_reruns_nothing(finished):
    later = time.time() + 100
    for path in (finished.folder / "atlas").iterdir():
        os.utime(path, (later, later))
    assert planned(finished) == {}


@pytest.mark.parametrize("name", ["rna.h5ad", "atac.h5ad", "orthologs.csv", "chromosomes.tsv"])
def test_a_changed_file_makes_its_corpus_anew(finished, name):
    path = finished.folder / "atlas" / name
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    try:
        jobs = planned(finished)
    finally:
        path.write_bytes(before)
    everything = ("build_vocabulary", "fit_preprocessing", "prepare_cells", "check_corpus")
    assert jobs == dict.fromkeys([*everything, "pretrain"], 1)


def test_a_changed_split_of_cells_keeps_the_vocabulary(finished):
    jobs = planned(finished, "--config", "set=preprocess.cells.cell_split.test_groups=[]")
    assert jobs == {"fit_preprocessing": 1, "prepare_cells": 1, "check_corpus": 1, "pretrain": 1}
