from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scripts import inspect_store
from tests.data.cell_store.memory_source import source_of, stored, to_store, vocabularies_of
from vcpipe.config.vocabulary import Vocabulary
from vcpipe.data.cell_store.exports import export_h5ad, export_zarr
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.corpus_names import Names
from vcpipe.data.corpus_to_store import store_vocabulary
from vcpipe.data.vocabulary import numbered
from vcpipe.data.vocabulary_building import build_vocabularies
from vcpipe.data.vocabulary_files import write_vocabularies
from vcpipe.errors import InputError

KNOWN = vocabularies_of(rna=80, atac=300)


@pytest.fixture
def store(counts, tmp_path, generator):
    """Genes 80 to 89 are unknown; peaks of 300; cells of all sets, and a grouped copy."""
    peaks = generator.random((200, 300)) < 0.05
    labels = {"kind": generator.choice(["a", None], 200)}
    matrices = {"rna": counts, "atac": peaks}
    sets = generator.choice([0, 1, 2], 200)
    source = to_store(source_of("plate", matrices, labels), KNOWN, sets)
    return stored(
        tmp_path / "store",
        [source],
        KNOWN,
        about={"made": "here"},
        block_size=32,
        group_by=["kind"],
    )


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_what_comes_back_is_what_went_in(store, counts, tmp_path, form):
    path = tmp_path / f"cells.{form}"
    {"h5ad": export_h5ad, "zarr": export_zarr}[form](store, path)
    cells = {"h5ad": ad.read_h5ad, "zarr": ad.read_zarr}[form](path)
    assert cells.shape == (200, 80)
    assert sp.issparse(cells.X)
    assert cells.X.dtype == np.float32
    cells = cells[sorted(cells.obs_names)]
    assert cells.obs_names.tolist() == [f"cell{number:05d}" for number in range(200)]
    assert cells.var_names.tolist() == [f"rna{number:06d}" for number in range(80)]
    assert np.array_equal(cells.X.toarray(), counts[:, :80])
    assert cells.obs["total_rna"].tolist() == counts.sum(axis=1).tolist()
    assert set(cells.obs["kind"].dropna()) == {"a"}
    assert cells.obs["kind"].isna().any()
    assert set(cells.obs["set"]) == {"train", "val", "test"}


def test_counts_beyond_float32_are_exported_exactly(tmp_path):
    counts = np.array([[2**24 + 1, 0], [0, 2**32 - 1]])
    store = stored(tmp_path / "store", [source_of("plate", {"rna": counts})], KNOWN)
    export_h5ad(store, tmp_path / "cells.h5ad")
    cells = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert np.array_equal(cells[sorted(cells.obs_names)].X.toarray(), counts)


def test_species_are_exported_apart(counts, tmp_path):
    known = vocabularies_of(("human", "mouse"), rna=90)
    sources = [
        source_of("plate", {"rna": counts}),
        source_of("wells", {"rna": counts[:50]}, species="mouse"),
    ]
    store = stored(tmp_path / "store", sources, known)
    with pytest.raises(InputError, match=r"cells of human, mouse.* choose one with --species"):
        export_h5ad(store, tmp_path / "cells.h5ad")
    with pytest.raises(InputError, match="no cells of 'rat'; it has human, mouse"):
        export_h5ad(store, tmp_path / "cells.h5ad", species="rat")
    export_h5ad(store, tmp_path / "cells.h5ad", species="mouse")
    cells = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert np.array_equal(cells[sorted(cells.obs_names)].X.toarray(), counts[:50])


def test_the_script_shows_verifies_and_writes(store, tmp_path, capsys):
    out = ["--export-h5ad", str(tmp_path / "a.h5ad"), "--export-zarr", str(tmp_path / "a.zarr")]
    out += ["--modality", "atac", "--unpack", str(tmp_path / "copy")]
    inspect_store.main([str(store.path), "--verify", *out])
    shown = capsys.readouterr().out
    assert f"data_digest: {store.manifest['data_digest']}" in shown
    assert "200 cells" in shown
    assert f"train: {len(store.sets['train'])} cells" in shown
    assert "dataset plate (human): 200 cells, 80 features of rna, 300 features of atac" in shown
    assert "rna vocabulary of human: 80 features, digest rnahuman" in shown
    assert "about.made: here" in shown
    assert "are as they were written" in shown
    assert ad.read_h5ad(tmp_path / "a.h5ad").shape == (200, 300)
    assert (tmp_path / "copy" / "manifest.json").exists()


def test_the_script_compares_the_store_with_a_folder_of_names(counts, tmp_path, capsys):
    source = source_of("plate", {"rna": counts})
    made, genes = build_vocabularies([source], Vocabulary()), source.features["rna"].names
    known = {"rna": {"human": store_vocabulary(Names(made, Vocabulary()), "rna", "human")}}
    store = stored(tmp_path / "store", [source], known)
    for name, vocabularies in {
        "same": made,
        "shuffled": with_genes(made, np.roll(genes, 1)),
        "fewer": with_genes(made, genes[:-1]),
        "mouse": with_genes(made, genes, "mouse"),
    }.items():
        write_vocabularies(tmp_path / name, vocabularies)

    def compare(name: str) -> None:
        arguments = ["--vocabulary-folder", str(tmp_path / name)]
        inspect_store.main([str(store.path), *arguments])

    compare("same")
    assert f"vocabulary: rna of human as in {tmp_path / 'same'}" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"another rna vocabulary .* other ids for rna000000, "):
        compare("shuffled")
    with pytest.raises(InputError, match=r"94 and 93 names, other ids for rna000089\."):
        compare("fewer")
    with pytest.raises(InputError, match="no vocabulary for the genes of 'human'"):
        compare("mouse")


def with_genes(vocabularies, genes, species: str = "human"):
    """The same with other genes, in an order of their own."""
    special = vocabularies.special_tokens.names()
    return replace(
        vocabularies, genes={species: numbered(special, list(genes))}, gene_ids={species: {}}
    )


def test_names_of_features_stay_with_the_store(store):
    assert open_store(store.path).feature_names("atac", "human") == [
        f"atac{number:06d}" for number in range(300)
    ]
