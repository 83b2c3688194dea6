import json

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scripts import inspect_store
from tests.data.cell_store.memory_source import source_of, stored, to_store, vocabularies_of
from vcpipe.data.cell_store.exports import export_h5ad, export_zarr
from vcpipe.data.cell_store.reading import open_store
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
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    for modality in ("rna", "atac"):
        names = store.feature_names(modality, "human")
        ids = {name: number for number, name in enumerate(names)}
        (folder / f"{modality}_vocab.json").write_text(json.dumps(ids))
    out = ["--export-h5ad", str(tmp_path / "a.h5ad"), "--export-zarr", str(tmp_path / "a.zarr")]
    out += ["--modality", "atac", "--unpack", str(tmp_path / "copy")]
    arguments = [str(store.path), "--verify", "--vocabulary-folder", str(folder), *out]
    inspect_store.main(arguments)
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
    ids["atac000003"], ids["atac000004"] = 4, 3
    (folder / "atac_vocab.json").write_text(json.dumps(ids))
    with pytest.raises(InputError, match="other ids for atac000003, atac000004"):
        inspect_store.main([str(store.path), "--vocabulary-folder", str(folder)])


def test_names_of_features_stay_with_the_store(store):
    assert open_store(store.path).feature_names("atac", "human") == [
        f"atac{number:06d}" for number in range(300)
    ]
