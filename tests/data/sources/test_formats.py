import tempfile
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.sources.written import (
    Table,
    write_h5ad,
    write_h5mu,
    write_layer,
    write_lines,
    write_mtx,
    write_raw,
    write_tenx_h5,
)
from vcpipe.config.atlases import Atlas
from vcpipe.data.sources import file_cells, matrix
from vcpipe.data.sources.atlas import open_atlas
from vcpipe.errors import InputError

few = settings(max_examples=6, deadline=None, derandomize=True)

WRITERS = {
    "csr": (lambda path, table: write_h5ad(path, table), "X"),
    "csc": (lambda path, table: write_h5ad(path, table, "csc"), "X"),
    "dense": (lambda path, table: write_h5ad(path, table, "dense"), "X"),
    "compressed": (lambda path, table: write_h5ad(path, table, compression="gzip"), "X"),
    "dense in blocks": (
        lambda path, table: write_h5ad(path, table, "dense", compression="gzip"),
        "X",
    ),
    "layer": (write_layer, "raw_counts"),
    "raw": (write_raw, "raw"),
    "csc in raw": (lambda path, table: write_raw(path, table, "csc"), "raw"),
    "h5mu": (lambda path, table: write_h5mu(path, {"rna": table}), "X"),
    "10x 2": (lambda path, table: write_tenx_h5(path, [table], version=2), "X"),
    "10x 3": (lambda path, table: write_tenx_h5(path, [table]), "X"),
    "mtx": (lambda path, table: write_mtx(path, [table], compressed=False), "X"),
    "mtx.gz": (lambda path, table: write_mtx(path, [table]), "X"),
}


@st.composite
def tables(draw) -> Table:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_cells, num_genes = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    counts = generator.poisson(draw(st.sampled_from([0.0, 0.3, 4.0])), (num_cells, num_genes))
    counts = sp.csr_matrix(counts.astype(np.float32))
    cells = [f"cell{row}" for row in range(num_cells)]
    return Table(counts, cells, [f"G{column}" for column in range(num_genes)])


def read(path: Path, wanted: np.ndarray | None = None, **atlas):
    (source,) = open_atlas(
        "tiny", Atlas(rna={"paths": [str(path)], **atlas.pop("rna", {})}, **atlas)
    )
    chunks = list(source.chunks(wanted))
    rows = np.concatenate([chunk.rows for chunk in chunks]) if chunks else np.array([], dtype=int)
    blocks = [chunk.counts["rna"] for chunk in chunks]
    return source, rows, sp.vstack(blocks, format="csr") if blocks else None


@pytest.mark.parametrize(("write", "layer"), WRITERS.values(), ids=WRITERS)
@few
@given(table=tables(), few_entries=st.sampled_from([1, 7, 2**21]), seed=st.integers(0, 99))
def test_every_kind_of_file_gives_the_same_cells(write, layer, table, few_entries, seed):
    wanted = np.random.default_rng(seed).random(len(table.cells)) < 0.5
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module in (file_cells, matrix):
            patch.setattr(module, "ENTRIES_PER_CHUNK", few_entries)
        path = write(Path(folder) / "cells", table)
        source, rows, counts = read(path, rna={"layer": layer})
        _, some_rows, some = read(path, wanted, rna={"layer": layer})
    assert source.features["rna"].names.tolist() == table.features
    assert source.labels.to_dict("list") == {"batch": ["tiny"] * len(table.cells)}
    np.testing.assert_array_equal(rows, np.arange(len(table.cells)))
    assert counts.dtype == np.float32
    assert (counts != table.counts).nnz == 0
    np.testing.assert_array_equal(some_rows, np.flatnonzero(wanted))
    if wanted.any():
        assert (some != table.counts[wanted]).nnz == 0


@pytest.fixture
def table() -> Table:
    counts = np.random.default_rng(0).poisson(1.0, (50, 6))
    cells = [f"cell{row:02d}" for row in range(50)]
    return Table(sp.csr_matrix(counts.astype(np.float32)), cells, list("ABCDEF"))


@pytest.mark.parametrize(("write", "layer"), WRITERS.values(), ids=WRITERS)
def test_names_of_any_cells_come_in_the_order_they_are_asked_for(tmp_path, table, write, layer):
    source, *_ = read(write(tmp_path / "cells", table), rna={"layer": layer})
    rows = np.array([30, 2, 2, 49, 0])
    names = source.names(rows)
    assert names.dtype == object
    assert names.tolist() == [table.cells[row] for row in rows]


def test_chunks_are_bounded_by_what_they_hold_whatever_the_number_of_columns(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    indices = np.sort(generator.integers(0, 1000, (400, 150)) + 1000 * np.arange(150), axis=1)
    counts = sp.csr_matrix(
        (np.ones(60_000, np.float32), indices.ravel(), 150 * np.arange(401)), (400, 150_000)
    )
    peaks = [f"chr1:{start}-{start + 10}" for start in range(150_000)]
    table = Table(counts, [f"c{i}" for i in range(400)], peaks)
    path = write_h5ad(tmp_path / "atac.h5ad", table)
    (source,) = open_atlas("tiny", Atlas(atac={"paths": [str(path)]}))
    assert [len(chunk.rows) for chunk in source.chunks()] == [400]
    monkeypatch.setattr(file_cells, "ENTRIES_PER_CHUNK", 10_000)
    sizes = [chunk.counts["atac"].nnz for chunk in source.chunks()]
    assert sum(sizes) == counts.nnz
    assert 6 <= len(sizes) <= 8
    assert max(sizes) <= 10_000


def test_ids_of_genes_are_kept_beside_their_names(tmp_path, table):
    source, *_ = read(write_tenx_h5(tmp_path / "a.h5", [table]))
    assert source.features["rna"].ids[:2].tolist() == ["ENSG00000000000", "ENSG00000000001"]
    source, *_ = read(tmp_path / "a.h5", rna={"name_key": "id"})
    assert source.features["rna"].names[:2].tolist() == ["ENSG00000000000", "ENSG00000000001"]


def test_a_column_of_var_can_name_the_genes(tmp_path, table):
    cells = table.anndata()
    cells.var["feature_name"] = [f"{name}_1" for name in table.features]
    cells.var_names = [f"ENSG{number:011d}" for number in range(6)]
    cells.write_h5ad(tmp_path / "a.h5ad")
    source, *_ = read(tmp_path / "a.h5ad", rna={"name_key": "feature_name"})
    assert source.features["rna"].names[0] == "A_1"
    assert source.features["rna"].ids[0] == "ENSG00000000000"
    with pytest.raises(InputError, match=r"no var column 'nom'; .*symbol, feature_name.*name_key"):
        read(tmp_path / "a.h5ad", rna={"name_key": "nom"})


def test_genes_and_peaks_of_one_file_of_10x_are_told_apart(tmp_path, table):
    peaks = Table(
        table.counts[:, :3], table.cells, ["chr1:1-2", "chr1:5-9", "chr2:1-2"], kind="Peaks"
    )
    for path in (
        write_tenx_h5(tmp_path / "a.h5", [table, peaks]),
        write_mtx(tmp_path / "mtx", [peaks, table]),
    ):
        files = {"paths": [str(path)]}
        (source,) = open_atlas("tiny", Atlas(rna=files, atac=files))
        (chunk,) = source.chunks()
        assert source.features["rna"].names.tolist() == table.features
        assert source.features["atac"].names.tolist() == peaks.features
        assert (chunk.counts["rna"] != table.counts).nnz == 0
        assert (chunk.counts["atac"] != peaks.counts).nnz == 0


def test_a_folder_of_cell_ranger_atac_names_peaks_in_a_bed(tmp_path, table):
    folder = write_mtx(tmp_path / "mtx", [table], compressed=False)
    (folder / "features.tsv").unlink()
    lines = [f"chr1\t{start}\t{start + 5}" for start in range(0, 60, 10)]
    write_lines(folder / "peaks.bed", ["# genome=GRCh38", *lines])
    (source,) = open_atlas("tiny", Atlas(atac={"paths": [str(folder)]}))
    assert source.features["atac"].names[:2].tolist() == ["chr1:0-5", "chr1:10-15"]


def test_a_folder_of_cell_ranger_2_has_genes_without_types(tmp_path, table):
    folder = write_mtx(tmp_path / "mtx", [table], compressed=False)
    (folder / "features.tsv").unlink()
    write_lines(folder / "genes.tsv", [f"ENSG{i:011d}\t{g}" for i, g in enumerate("ABCDEF")])
    source, _, counts = read(folder)
    assert source.features["rna"].names.tolist() == list("ABCDEF")
    assert (counts != table.counts).nnz == 0


def test_labels_of_an_h5mu_may_stand_beside_its_modalities(tmp_path, table):
    labels = pd.DataFrame({"kind": ["T", "B"] * 26}, index=[*table.cells, "x1", "x2"])
    other = Table(table.counts[:3], ["x2", "x1", "cell07"], table.features)
    path = write_h5mu(tmp_path / "a.h5mu", {"atac": other, "rna": table}, labels)
    source, *_ = read(path, cell_type_key="kind")
    assert source.labels["cell_type"].tolist() == ["T", "B"] * 25


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["T", "nan", "B", ""], ["T", None, "B", None]),
        (pd.Categorical(["T", None, "B", "nan"], categories=["nan", "T", "B", "no one"]), None),
        (pd.array(["T", None, "B", None], dtype="string"), ["T", None, "B", None]),
        ([3, 1, 2, 1], ["3", "1", "2", "1"]),
        ([3, np.nan, 2, 1], ["3", None, "2", "1"]),
        (pd.Categorical([3.0, None, 2.0, 1.0]), ["3", None, "2", "1"]),
        ([1.5, np.nan, 2.0, 1.5], ["1.5", None, "2", "1.5"]),
        (pd.array([True, None, False, True], dtype="boolean"), ["True", None, "False", "True"]),
        (pd.array([7, None, 7, 8], dtype="Int64"), ["7", None, "7", "8"]),
    ],
    ids=[
        "text",
        "categorical",
        "nullable text",
        "integers",
        "some missing",
        "their categories",
        "floats",
        "nullable bool",
        "nullable",
    ],
)
def test_labels_are_categories_and_missing_ones_stay_missing(tmp_path, table, values, expected):
    some = Table(table.counts[:4], table.cells[:4], table.features)
    cells = some.anndata()
    cells.obs["label"] = values
    with ad.settings.override(allow_write_nullable_strings=True):
        cells.write_h5ad(tmp_path / "a.h5ad", convert_strings_to_categoricals=False)
    source, *_ = read(tmp_path / "a.h5ad", cell_type_key="label", obs_columns=["label"])
    expected = expected or ["T", None, "B", None]
    assert list(source.labels) == ["batch", "cell_type", "label"]
    for label in ("cell_type", "label"):
        found = source.labels[label].cat
        assert [None if pd.isna(value) else value for value in source.labels[label]] == expected
        assert found.categories.tolist() == sorted(set(expected) - {None})
        assert (found.codes == -1).tolist() == [value is None for value in expected]


def test_labels_of_many_cells_are_read_some_at_a_time(tmp_path, monkeypatch, table):
    monkeypatch.setattr("vcpipe.data.sources.cells.NAMES_TOGETHER", 7)
    obs = pd.DataFrame({"donor": [f"d{i * i % 11}" for i in range(50)]}, index=table.cells)
    path = tmp_path / "a.h5ad"
    Table(table.counts, table.cells, table.features, obs).anndata().write_h5ad(
        path, convert_strings_to_categoricals=False
    )
    source, *_ = read(path, donor_key="donor")
    assert source.labels["donor"].tolist() == obs["donor"].tolist()
    assert source.names(np.arange(50)[::-1]).tolist() == table.cells[::-1]


def test_a_digest_changes_with_what_is_read_and_not_with_the_place(tmp_path, table):
    labels = pd.DataFrame({"kind": ["T", "B"] * 25}, index=table.cells)

    def read_digest(path, table, **atlas):
        write_h5ad(path, table)
        return read(path, cell_type_key="kind", **atlas)[0].data_digest

    table = replace(table, obs=labels)
    digest = read_digest(tmp_path / "a.h5ad", table)
    assert read_digest(tmp_path / "b.h5ad", table) == digest
    counts, cells = table.counts.copy(), [*table.cells[:-1], "z"]
    counts.data[17] += 1
    for other in (
        replace(table, counts=counts),
        replace(table, cells=cells, obs=labels.set_axis(cells)),
        replace(table, features=list("ABCDEZ")),
        replace(table, obs=labels.iloc[::-1].set_axis(table.cells)),
    ):
        assert read_digest(tmp_path / "c.h5ad", other) != digest
    assert read_digest(tmp_path / "a.h5ad", table, species="mouse") != digest


def test_files_of_a_pattern_come_sorted_by_name(tmp_path, table):
    for name in ("b", "a", "._a"):
        cells = [f"{name}{cell}" for cell in table.cells]
        write_h5ad(tmp_path / f"{name}.h5ad", Table(table.counts, cells, table.features))
    sources = open_atlas("tiny", Atlas(rna={"paths": [str(tmp_path / "*.h5ad")]}))
    assert [Path(source.path).name for source in sources] == ["a.h5ad", "b.h5ad"]
    assert sources[1].names(np.array([0])).tolist() == ["bcell00"]
