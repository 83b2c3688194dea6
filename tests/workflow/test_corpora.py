"""Real RNA and ATAC of one and the same cells, from two files to a checked corpus."""

import csv
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from tests.workflow.conftest import PROJECT, copy_of_the_project
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.vocabulary_files import read_vocabularies

DATA = PROJECT.parent / "shared/data"
RNA, ATAC = "snareseq_mop_rna_counts.h5ad", "snareseq_mop_atac_counts.h5ad"
NUM_CELLS = 10_309

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / RNA).exists(), reason="the SNARE-seq files are not here"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """config/snareseq.yaml as it stands, up to the check of its corpus."""
    workflow = copy_of_the_project(tmp_path_factory.mktemp("snareseq") / "project")
    folder = workflow.folder / "resources/data"
    folder.mkdir()
    for path in [DATA / RNA, DATA / ATAC, *(DATA / "genes").iterdir()]:
        (folder / path.name).symlink_to(path)
    workflow.run("results/check_corpus/cortex", config="config/snareseq.yaml")
    return workflow.folder / "results"


def table(results, name: str) -> pd.DataFrame:
    return pd.read_csv(results / f"check_corpus/cortex/{name}.tsv", sep="\t")
