"""The same cells are the same store, wherever their files lie and in which order."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from scripts import build_vocabulary, fit_preprocessing, prepare_cells
from vcpipe.data.cell_store.reading import open_store


def prepared(folder: Path, files: list[str]) -> dict:
    """The manifest of a store of one atlas."""
    paths = [str(folder / file) for file in files]
    atlas = {"a": {"rna": {"paths": paths}, "batch_key": "batch"}}
    atlases, names = f"--atlases={json.dumps(atlas)}", f"--vocabulary={folder / 'names'}"
    build_vocabulary.main([atlases, f"--out={folder / 'names'}"])
    settings = ["cell_split.val=0.2", "filters.min_genes=5", "fit.min_gene_counts=100"]
    fit_preprocessing.main([atlases, names, f"--out={folder / 'record'}", *settings])
    fitted, out = f"--fitted={folder / 'record'}", f"--out={folder / 'store'}"
    prepare_cells.main([atlases, names, fitted, out, "group_by=[batch]"])
    return open_store(folder / "store").manifest


@pytest.fixture
def folder(counts, tmp_path) -> Path:
    """Two files of 70 and 50 cells."""
    made = tmp_path / "first_place"
    made.mkdir()
    counts[:70].copy().write_h5ad(made / "one.h5ad")
    counts[70:].copy().write_h5ad(made / "two.h5ad")
    return made


def test_a_folder_that_was_moved_changes_nothing(folder, tmp_path):
    before = prepared(folder, ["one.h5ad", "two.h5ad"])
    moved = tmp_path / "second_place"
    moved.mkdir()
    for name in ("one.h5ad", "two.h5ad"):
        shutil.copy(folder / name, moved / name)
    assert prepared(moved, ["one.h5ad", "two.h5ad"]) == before
    assert "_place" not in json.dumps(before)


def test_the_order_of_files_cells_and_genes_does_not_change_the_digest(folder, counts, tmp_path):
    before = prepared(folder, ["one.h5ad", "two.h5ad"])
    generator, other = np.random.default_rng(0), tmp_path / "other"
    other.mkdir()
    cells, genes = (generator.permutation(number) for number in counts.shape)
    # The longer file comes second, and cells lie in other files.
    counts[cells[:40], genes].copy().write_h5ad(other / "b.h5ad")
    counts[cells[40:], genes].copy().write_h5ad(other / "a.h5ad")
    after = prepared(other, ["b.h5ad", "a.h5ad"])
    assert after["data_digest"] == before["data_digest"]
    files = [[each["file"] for each in m["statistics"]["sources"]] for m in (before, after)]
    assert files == [["one.h5ad", "two.h5ad"], ["a.h5ad", "b.h5ad"]]
    assert [row["file"] for row in after["about"]["coverage"]] == files[1]


def test_another_count_is_another_digest(folder, counts):
    before = prepared(folder, ["one.h5ad", "two.h5ad"])
    changed = counts[70:].copy()
    changed.X.data[0] += 1
    changed.write_h5ad(folder / "two.h5ad")
    assert prepared(folder, ["one.h5ad", "two.h5ad"])["data_digest"] != before["data_digest"]
