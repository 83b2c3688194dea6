"""Cells that nothing was fitted on get the numbers of those that were."""

import json

import anndata as ad
import numpy as np
import pytest

from scripts import build_vocabulary, fit_preprocessing, prepare_cells
from vcpipe.config.pipeline import Pipeline, contradictions
from vcpipe.config.preprocess import Corpus
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.corpus import open_new_cells
from vcpipe.data.preprocessing_record import read_record
from vcpipe.errors import InputError


@pytest.fixture
def atlas(counts, tmp_path):
    """Writes some cells and genes of the tiny screen as an atlas; gives its settings."""

    def write(name: str, cells=slice(None), genes=slice(None)) -> str:
        path = tmp_path / f"{name}.h5ad"
        counts[cells, genes].copy().write_h5ad(path)
        return json.dumps({name: {"rna": {"paths": [str(path)]}, "batch_key": "batch"}})

    return write


@pytest.fixture
def fitted(atlas, tmp_path):
    """Folders of a vocabulary and a record, fitted on the first 60 cells."""
    names, record = tmp_path / "names", tmp_path / "record"
    first = f"--atlases={atlas('first', slice(60))}"
    build_vocabulary.main([first, f"--out={names}"])
    settings = ["fit.min_gene_counts=100", "filters.min_genes=5"]
    fit_preprocessing.main([first, f"--vocabulary={names}", f"--out={record}", *settings])
    return [f"--vocabulary={names}", f"--fitted={record}"]


def prepared(atlases: str, fitted: list[str], out):
    prepare_cells.main([f"--atlases={atlases}", *fitted, "--new", f"--out={out}"])
    return open_store(out)


def test_new_cells_keep_the_numbers_and_genes_that_were_fitted(atlas, fitted, counts, tmp_path):
    order = np.random.default_rng(0).permutation(counts.n_vars)[5:]
    store = prepared(atlas("second", slice(60, 120), order), fitted, tmp_path / "store")
    assert [len(its) for its in store.sets.values()] == [0, 0, 60]
    record = read_record(tmp_path / "record/record.json")
    assert store.manifest["about"]["record_digest"] == record.digest
    names = np.array(store.feature_names("rna", "human"))
    assert json.loads((tmp_path / "names/vocab.json").read_text())[names[7]] == 7
    kept = set(names[record.is_kept("rna", "human")]) - {"<cls>", "<pad>", "<mask>", "<eoc>"}
    assert 0 < len(kept) < counts.n_vars
    rows, cells = store.rows(np.arange(60)), store.labels(columns=["cell"])["cell"].to_pylist()
    for cell, start, stop in zip(cells, rows.starts[:-1], rows.starts[1:], strict=True):
        shown = dict(zip(names[rows.ids[start:stop]], rows.counts[start:stop], strict=True))
        whole = counts[cell].to_df().iloc[0]
        assert shown == {
            gene: count for gene, count in whole.iloc[order].items() if count and gene in kept
        }
    (row,) = store.manifest["about"]["coverage"]
    assert row["used"] + row["filtered_out"] == row["known"] == counts.n_vars - 5


def test_new_batches_are_counted_and_new_types_refused(atlas, counts, fitted, tmp_path, capsys):
    counts.obs["batch"] = "b7"
    counts.obs["kind"] = ["K562"] * 90 + ["A549"] * 30
    store = prepared(atlas("second", slice(60, 120)), fitted, tmp_path / "store")
    assert store.manifest["about"]["coverage"][0]["new_batches"] == 1
    assert "second.h5ad: 1 batches that the vocabulary lacks" in capsys.readouterr().out
    first = json.loads(atlas("first", slice(60)))
    first["first"]["cell_type_key"] = "kind"
    typed, record = f"--vocabulary={tmp_path / 'typed'}", f"--out={tmp_path / 'typed_record'}"
    build_vocabulary.main([f"--atlases={json.dumps(first)}", f"--out={tmp_path / 'typed'}"])
    fit_preprocessing.main([f"--atlases={json.dumps(first)}", typed, record])
    folders = [typed, f"--fitted={tmp_path / 'typed_record'}"]
    second = json.loads(atlas("second", slice(60, 90)))
    second["second"]["cell_type_key"] = "kind"
    prepared(json.dumps(second), folders, tmp_path / "known")
    atlas("second", slice(60, 120))
    with pytest.raises(InputError, match=r"second\.h5ad, cell_type, has labels .*lacks: A549; it"):
        prepared(json.dumps(second), folders, tmp_path / "unknown")
    assert not (tmp_path / "unknown").exists()


def test_new_cells_of_other_genes_are_refused(atlas, fitted, counts, tmp_path):
    other = counts[:20].copy()
    other.var_names = [f"OTHER{i}" for i in range(other.n_vars)]
    other.write_h5ad(tmp_path / "other.h5ad")
    settings = json.dumps({"other": {"rna": {"paths": [str(tmp_path / "other.h5ad")]}}})
    with pytest.raises(InputError, match=r"other\.h5ad"):
        prepared(settings, fitted, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_corpus_like_another_decides_nothing_by_itself():
    with pytest.raises(ValueError, match=r"like is 'old', which decides on filters; leave these"):
        Corpus(atlases=["a"], like="old", filters={"min_genes": 3})
    pipeline = Pipeline(
        atlases={name: {"rna": {"paths": [f"{name}.h5ad"]}} for name in "abc"},
        preprocess={
            "old": {"atlases": ["a"]},
            "new": {"atlases": ["b"], "like": "old"},
            "newer": {"atlases": ["c"], "like": "new"},
        },
        pretrain={"run": {"corpus": "new"}},
    )
    found = "\n".join(contradictions(pipeline))
    assert "preprocess.newer.like is 'new', which is itself like 'old'" in found
    assert "pretrain.run.corpus is 'new', whose cells are all for test; expected 'old'" in found
    assert len(found.splitlines()) == 2


@pytest.mark.parametrize("name", ["first", "renamed"])
def test_cells_that_were_fitted_on_are_not_new(atlas, fitted, tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}\.h5ad of '{name}' is among the files"):
        prepared(atlas(name, slice(60)), fitted, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_screen_that_was_fitted_on_is_not_new(screen, tmp_path):
    names, record = tmp_path / "names", tmp_path / "record"
    build_vocabulary.main([f"--screens={screen.path}", f"--out={names}"])
    fit_preprocessing.main([f"--screens={screen.path}", f"--vocabulary={names}", f"--out={record}"])
    with pytest.raises(InputError, match="of 'tiny' is among the files"):
        open_new_cells([screen.path], {}, read_record(record / "record.json"))


def test_the_whole_of_the_counts_is_in_the_totals(atlas, fitted, counts, tmp_path):
    store = prepared(atlas("second", slice(60, 120)), fitted, tmp_path / "store")
    cells = store.labels(columns=["cell"])["cell"].to_pylist()
    totals = store.rows(np.arange(60)).totals
    expected = ad.AnnData(counts.X, counts.obs, counts.var)[cells].X.sum(axis=1)
    assert totals.tolist() == np.asarray(expected).ravel().astype(int).tolist()
