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


@pytest.fixture(scope="module")
def store(results):
    return open_store(results / "prepare_cells/cortex")


@pytest.fixture(scope="module")
def raw() -> dict[str, ad.AnnData]:
    return {"rna": ad.read_h5ad(DATA / RNA), "atac": ad.read_h5ad(DATA / ATAC)}


def labels_of(store, name: str) -> pd.DataFrame:
    return store.labels(np.array(store.sets[name])).to_pandas()


def test_every_cell_is_paired_and_none_is_lost_without_a_reason(results, store, raw):
    cells = table(results, "cells").set_index("what")["cells"]
    assert cells.sum() == NUM_CELLS == len(raw["rna"]) == len(raw["atac"])
    assert set(raw["rna"].obs_names) == set(raw["atac"].obs_names)
    kept = {name: len(its) for name, its in store.sets.items()}
    assert cells[list(kept)].to_dict() == kept
    left_out = cells.drop(list(kept))
    assert 0 < left_out.sum() < 0.01 * NUM_CELLS
    assert set(left_out.index) <= {"min_genes", "min_peaks"}
    (pairs,) = pd.read_csv(results / "build_vocabulary/cortex/pairs.tsv", sep="\t").to_dict(
        "records"
    )
    assert pairs == {"dataset": "snareseq", **dict.fromkeys(["rna", "atac", "paired"], NUM_CELLS)}
    open_peaks = pd.Series(np.diff(raw["atac"].X.tocsr().indptr), raw["atac"].obs_names)
    kept = store.labels(np.arange(len(store)), ["cell"])["cell"].to_pylist()
    assert open_peaks[kept].min() >= 10
    assert (open_peaks < 10).sum() <= left_out.sum()


def test_both_modalities_of_a_cell_are_its_own(store, raw):
    cells = store.labels(np.arange(len(store)), ["cell"])["cell"].to_pylist()
    for modality, its in raw.items():
        rows = store.rows(np.arange(len(store)), modality)
        expected = pd.Series(np.asarray(its.X.sum(axis=1)).ravel(), its.obs_names)[cells]
        assert np.array_equal(rows.totals, expected)
    names = np.array(store.feature_names("atac", "human"))
    columns = {name.replace("_", ":", 1).replace("_", "-"): name for name in raw["atac"].var_names}
    for position in range(5):
        cell = raw["atac"][cells[position]].to_df().iloc[0]
        row = store.rows([position], "atac")
        assert cell[[columns[name] for name in names[row.ids]]].tolist() == row.counts.tolist()


def test_whole_batches_are_held_out_and_no_cell_is_in_two_sets(store, raw):
    sets = {name: labels_of(store, name) for name in ("train", "val", "test")}
    batches = {name: set(its["batch"]) for name, its in sets.items()}
    assert sum(map(len, batches.values())) == len(set.union(*batches.values())) == 12
    assert (len(batches["val"]), len(batches["test"])) == (1, 2)
    cells = pd.concat(sets.values())
    assert cells["cell"].is_unique
    truth = raw["rna"].obs.loc[cells["cell"]]
    assert cells["batch"].tolist() == truth["batch"].tolist()
    assert cells["cell_type"].tolist() == truth["cell_type"].tolist()
    grouped = store.labels(np.array(store.grouped))["cell"].to_pylist()
    assert sorted(grouped) == sorted(sets["train"]["cell"])


def test_mouse_genes_are_called_by_their_human_orthologs(results, store):
    coverage = table(results, "coverage").set_index("modality")
    genes, peaks = coverage.loc["rna"], coverage.loc["atac"]
    # The file has 1,677 genes; two of them have the same ortholog.
    assert (genes["known"], genes["unnamed"], genes["unknown"]) == (1551, 125, 0)
    assert (peaks["features"], peaks["known"]) == (25_734, 25_734)
    assert (coverage["used"] + coverage["filtered_out"] == coverage["known"]).all()
    fates = pd.read_csv(results / "build_vocabulary/cortex/orthologs.tsv", sep="\t")
    assert len(fates) == 1677
    assert fates["ortholog"].nunique() == 1551
    with (DATA / "genes/human2mouse_ensembl105.csv").open() as file:
        human = {row[0] for row in csv.reader(file) if row[1]}
    ids = json.loads((DATA / "genes/scgpt_default_gene_vocab.json").read_text())
    names = np.array(store.feature_names("rna", "human"))
    measured = store.measured["rna"]["snareseq"]
    assert len(measured) == 1551
    assert all(ids[name] == number for name, number in zip(names[measured], measured, strict=True))
    # One of them is another name of its gene in scGPT's vocabulary.
    assert len(set(names[measured]) - human) == genes["renamed"] == 1
    vocabularies = read_vocabularies(results / "build_vocabulary/cortex")
    assert (vocabularies.chromosome_ids("rna", "human")[measured] >= 0).mean() > 0.95
    assert (
        vocabularies.chromosome_ids("atac", "human")[store.measured["atac"]["snareseq"]] >= 0
    ).all()


def test_what_was_asked_for_is_fitted_on_train_alone(results, store):
    folder = results / "fit_preprocessing/cortex"
    genes = pd.read_csv(folder / "hvg.csv")
    assert genes["rank"].tolist() == list(range(1, 1001))
    assert set(genes["gene"]) <= set(store.feature_names("rna", "human"))
    peaks = pd.read_csv(folder / "peaks.tsv", sep="\t").set_index("peak")
    assert (peaks["kept"] == (peaks["cells"] >= 5)).all()
    rows = store.rows(np.array(store.sets["train"]), "atac")
    names = np.array(store.feature_names("atac", "human"))
    cells = pd.Series(np.bincount(rows.ids, minlength=len(names)), names)
    assert cells[peaks.index[peaks["kept"]]].equals(peaks.loc[peaks["kept"], "cells"])
    assert not cells.drop(peaks.index[peaks["kept"]]).any()


def test_lengths_truncation_and_bins_are_those_of_the_stored_cells(results, store):
    lengths = table(results, "lengths")
    its = lengths[lengths["modality"] == "rna"]
    found = np.diff(store.rows(np.arange(len(store))).starts)
    assert np.repeat(its["length"], its["cells"]).tolist() == sorted(found)
    runs = table(results, "truncation").set_index(["run", "modality"])
    run = runs.loc["cortex_masked", "rna"]
    assert run["most_tokens"] == 255
    assert run["truncated_cells"] == (found > 255).sum() > 0
    peaks = np.diff(store.rows(np.arange(len(store)), "atac").starts)
    assert runs.loc["cortex_peaks", "atac"]["truncated_cells"] == (peaks > 1023).sum()
    bins = table(results, "bins")
    assert bins["bin"].tolist() == list(range(51))
    assert bins["share"].sum() == pytest.approx(1)
    assert bins["share"][0] == 0
    figures = {path.name for path in (results / "check_corpus/cortex").glob("*.svg")}
    assert figures == {"coverage.svg", "cells.svg", "lengths.svg", "bins.svg"}
