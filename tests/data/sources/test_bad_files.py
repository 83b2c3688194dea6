"""What is wrong with a file is said with its name, the place, and what to do."""

import gzip
from dataclasses import replace

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from pydantic import ValidationError

from tests.data.sources.written import (
    Table,
    write_h5ad,
    write_h5mu,
    write_lines,
    write_mtx,
    write_raw,
    write_tenx_h5,
)
from vcpipe.config.atlases import Atlas
from vcpipe.data.sources.atlas import open_atlas
from vcpipe.errors import InputError


@pytest.fixture
def table() -> Table:
    counts = np.random.default_rng(0).poisson(1.0, (20, 6))
    counts[3, 2] = 4
    cells = [f"cell{row:02d}" for row in range(20)]
    return Table(sp.csr_matrix(counts.astype(np.float32)), cells, list("ABCDEF"))


def read(*paths, modality="rna", matrix=None, **atlas):
    files = {"paths": [str(path) for path in paths], **(matrix or {})}
    sources = open_atlas("tiny", Atlas(**{modality: files}, **atlas))
    chunks = [chunk.counts[modality] for source in sources for chunk in source.chunks()]
    return sources, sp.vstack(chunks, format="csr")


def with_entries(table: Table, path, entries) -> None:
    """An h5ad with these values in cell 3, on top of its own, in no order."""
    counts = table.counts.tolil()
    counts[3] = 0
    counts = counts.tocsr()
    start = counts.indptr[3]
    columns, values = zip(*entries, strict=True)
    data = np.insert(counts.data.astype(np.float64), start, values)
    indices = np.insert(counts.indices, start, columns)
    ends = counts.indptr + len(entries) * (np.arange(21) > 3)
    write_h5ad(path, table)
    with h5py.File(path, "r+") as file:
        attributes = dict(file["X"].attrs)
        del file["X"]
        for key, array in (("data", data), ("indices", indices), ("indptr", ends)):
            file[f"X/{key}"] = array
        file["X"].attrs.update(attributes)


def test_no_file_is_an_error():
    with pytest.raises(ValidationError, match="paths"):
        Atlas(rna={"paths": []})
    with pytest.raises(ValidationError, match="come from nowhere; expected exactly one of"):
        Atlas()


def test_a_pattern_that_no_file_has_is_named(tmp_path):
    with pytest.raises(InputError, match=r"atlases.tiny.rna.paths: no file is called .*\*.h5ad"):
        read(tmp_path / "*.h5ad")


def test_a_missing_file_is_named_with_what_is_read(tmp_path):
    with pytest.raises(InputError, match=r"a.h5ad does not exist; expected an h5ad, an h5mu"):
        read(tmp_path / "a.h5ad")


def test_a_file_given_twice_is_named(tmp_path, table):
    write_h5ad(tmp_path / "a.h5ad", table)
    with pytest.raises(InputError, match=r"tiny.rna.paths names .*a.h5ad more than once"):
        read(tmp_path / "a.h5ad", tmp_path / "*.h5ad")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"gene,cell\n", r"is not an h5ad \(not HDF5\); expected an h5ad, an h5mu, an .h5"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, message):
    (tmp_path / "a.h5ad").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.h5ad")


def test_hdf5_of_another_kind_is_refused_with_what_it_holds(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectra"] = [1]
    with pytest.raises(InputError, match="has no obs, var; it holds spectra"):
        read(tmp_path / "a.h5")


def test_zarr_stores_and_other_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no matrix.mtx \(or .gz\); expected the folder"):
        read(tmp_path)
    (tmp_path / ".zgroup").touch()
    with pytest.raises(InputError, match="is a zarr store"):
        read(tmp_path)


def test_a_truncated_file_is_refused(tmp_path, table):
    path = write_h5ad(tmp_path / "a.h5ad", table)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"a.h5ad is truncated"):
        read(path)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("counts", r"has no counts; its matrices are X, raw, other. Set atlases.tiny.rna.layer"),
        ("obs", "has no obs; its matrices are"),
    ],
)
def test_an_unknown_layer_is_named_with_those_that_exist(tmp_path, table, layer, message):
    cells = table.anndata()
    cells.raw, cells.layers["other"] = cells, cells.X
    cells.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.h5ad", matrix={"layer": layer})


def test_a_missing_raw_is_named(tmp_path, table):
    write_h5ad(tmp_path / "a.h5ad", table)
    with pytest.raises(InputError, match="has no raw; its matrices are X"):
        read(tmp_path / "a.h5ad", matrix={"layer": "raw"})
    write_raw(tmp_path / "b.h5ad", table)
    sources, _ = read(tmp_path / "b.h5ad", matrix={"layer": "raw"})
    assert sources[0].features["rna"].names.tolist() == table.features


def test_an_h5mu_without_the_modality_is_named(tmp_path, table):
    path = write_h5mu(tmp_path / "a.h5mu", {"prot": table})
    with pytest.raises(InputError, match="has no modality 'rna'; it holds prot"):
        read(path)


def test_10x_without_the_wanted_type_of_features_is_named(tmp_path, table):
    for path in (write_tenx_h5(tmp_path / "a.h5", [table]), write_mtx(tmp_path / "mtx", [table])):
        with pytest.raises(InputError, match="no features of type 'Peaks'; its types are Gene Exp"):
            read(path, modality="atac")


def test_10x_has_no_layers(tmp_path, table):
    path = write_tenx_h5(tmp_path / "a.h5", [table])
    with pytest.raises(InputError, match=r"has one matrix, no 'counts'; leave out .*rna.layer"):
        read(path, matrix={"layer": "counts"})


def test_10x_of_several_genomes_is_refused(tmp_path, table):
    path = write_tenx_h5(tmp_path / "a.h5", [table], version=2)
    with h5py.File(path, "r+") as file:
        file.copy("GRCh38", "mm10")
    with pytest.raises(InputError, match=r"several genomes \(GRCh38, mm10\)"):
        read(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("barcodes.tsv", "matrix.mtx is of 6 features × 20 cells, but 6 features and 19 cells"),
        ("features.tsv", "matrix.mtx is of 6 features × 20 cells, but 5 features and 20 cells"),
    ],
)
def test_tables_of_another_length_than_the_matrix_are_refused(tmp_path, table, name, message):
    folder = write_mtx(tmp_path / "mtx", [table], compressed=False)
    lines = (folder / name).read_text().splitlines()
    write_lines(folder / name, lines[:-1])
    with pytest.raises(InputError, match=message):
        read(folder)


@pytest.mark.parametrize("name", ["barcodes.tsv", "features.tsv", "matrix.mtx"])
@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_damaged_compressed_files_are_named(tmp_path, table, name, damage):
    path = write_mtx(tmp_path / "mtx", [table]) / f"{name}.gz"
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + (b"" if damage == "truncated" else b"\xff" * middle))
    with pytest.raises(InputError, match=rf"{name}.gz .*(damaged|truncated)"):
        read(tmp_path / "mtx")


def test_a_matrix_in_text_that_ends_early_is_refused(tmp_path, table):
    path = write_mtx(tmp_path / "mtx", [table], compressed=False) / "matrix.mtx"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-4]))
    with pytest.raises(InputError, match=r"matrix.mtx .* cannot be read \(.*\); it is damaged"):
        read(tmp_path / "mtx")


@pytest.mark.parametrize("number", ["1e400", "99999999999999999999999", "x"])
def test_a_number_that_none_can_hold_is_refused(tmp_path, table, number):
    path = write_mtx(tmp_path / "mtx", [table], compressed=False) / "matrix.mtx"
    lines = path.read_text().splitlines()
    write_lines(path, [*lines[:-1], f"6 20 {number}"])
    with pytest.raises(InputError, match=r"matrix.mtx"):
        read(tmp_path / "mtx")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "X is 0.5 in cell 'cell03', gene 'C'; expected raw counts.*set atlases.tiny.rna.lay"),
        (-1, "X is -1.0 in cell 'cell03', gene 'C'.*Negative values come from scaling"),
        (np.nan, "X is nan in cell 'cell03', gene 'C'"),
        (np.inf, "X is inf in cell 'cell03', gene 'C'"),
        (2.0**24 + 1, "X is 16777217.0 in cell 'cell03', gene 'C'.*are no UMI counts"),
    ],
)
def test_a_value_that_is_no_count_is_named(tmp_path, table, value, message):
    with_entries(table, tmp_path / "a.h5ad", [(2, value)])
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.h5ad")
    # Also where two of them are a count together.
    other = -value if np.isfinite(value) and value > 1 else 1 - value
    with_entries(table, tmp_path / "a.h5ad", [(2, value), (2, other)])
    with pytest.raises(InputError, match="in cell 'cell03', gene 'C'"):
        read(tmp_path / "a.h5ad")


@pytest.mark.parametrize("kind", ["real", "integer"])
def test_a_value_in_text_that_is_no_count_is_named(tmp_path, table, kind):
    path = write_mtx(tmp_path / "mtx", [table], compressed=False) / "matrix.mtx"
    lines = path.read_text().replace("integer", kind).splitlines()
    write_lines(path, [*lines[:-1], "6 20 1.5"])
    with pytest.raises(InputError, match=r"matrix.mtx is 1.5 in cell 'cell19', gene 'F'"):
        read(tmp_path / "mtx")


def test_zeros_go_order_comes_and_entries_that_stand_twice_add_up(tmp_path, table):
    with_entries(table, tmp_path / "a.h5ad", [(5, 3), (2, 1), (0, 0), (2, 4), (1, 2)])
    _, counts = read(tmp_path / "a.h5ad")
    row = counts[3]
    assert row.indices.tolist() == [1, 2, 5]
    assert row.data.tolist() == [2, 5, 3]
    assert (counts[:3] != table.counts[:3]).nnz == 0


def test_a_sum_over_the_range_is_refused(tmp_path, table):
    with_entries(table, tmp_path / "a.h5ad", [(2, 2**24), (2, 2**24)])
    with pytest.raises(InputError, match=r"X is 33554432.0 in cell 'cell03'.*are no UMI counts"):
        read(tmp_path / "a.h5ad")


def test_entries_of_10x_outside_its_features_are_refused(tmp_path, table):
    path = write_tenx_h5(tmp_path / "a.h5", [table])
    with h5py.File(path, "r+") as file:
        file["matrix/indices"][5] = 6
    with pytest.raises(InputError, match="matrix has column indices outside its 6"):
        read(path)
    features = replace(table, features=list("ABCDEA"))
    path = write_tenx_h5(tmp_path / "b.h5", [features])
    with h5py.File(path, "r+") as file:
        file["matrix/indices"][5] = -1
    with pytest.raises(InputError, match="matrix has column indices outside its 6"):
        read(path, repeated_features="sum")


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_repeated_genes_are_refused_or_added_up(tmp_path, table):
    table = replace(table, features=list("ABACDA"))
    for path in (
        write_tenx_h5(tmp_path / "a.h5", [table]),
        write_h5ad(tmp_path / "a.h5ad", table),
        write_mtx(tmp_path / "mtx", [table]),
    ):
        with pytest.raises(InputError, match=r"must be unique; A stand.*repeated_features: sum"):
            read(path)
        (source,), counts = read(path, repeated_features="sum")
        dense = table.counts.toarray()
        expected = np.stack([dense[:, [0, 2, 5]].sum(axis=1), *dense[:, [1, 3, 4]].T], axis=1)
        assert source.features["rna"].names.tolist() == ["A", "B", "C", "D"]
        np.testing.assert_array_equal(counts.toarray(), expected)
        assert (np.diff(counts.indices) > 0).sum() > 0
    (source,), _ = read(tmp_path / "a.h5", repeated_features="sum")
    assert source.features["rna"].ids.tolist()[:2] == ["", "ENSG00000000001"]


def test_genes_without_a_name_are_counted(tmp_path, table):
    cells = table.anndata()
    cells.var["symbol"] = ["A", "", "C", None, "E", "F"]
    cells.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match="2 genes without a name, the first in column 2"):
        read(tmp_path / "a.h5ad", matrix={"name_key": "symbol"})


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_cells_that_stand_twice_in_a_file_are_named(tmp_path, table):
    path = write_h5ad(tmp_path / "a.h5ad", replace(table, cells=["x", "x", *table.cells[2:]]))
    with pytest.raises(InputError, match=r"a.h5ad: names of cells must be unique; x stand"):
        read(path)
    with pytest.raises(InputError, match=r"a.h5ad: names of cells must be unique; x stand"):
        read(path, repeated_cells="prefix")


def test_cells_of_one_name_in_two_files_are_named_or_get_the_files_name_first(tmp_path, table):
    (tmp_path / "s1").mkdir()
    (tmp_path / "s2").mkdir()
    paths = [
        write_h5ad(tmp_path / "s1" / "a.h5ad", replace(table, cells=[f"z{i}" for i in range(20)])),
        write_h5ad(tmp_path / "s1" / "b.h5ad", table),
        write_h5ad(tmp_path / "s2" / "c.h5ad", table),
    ]
    with pytest.raises(
        InputError,
        match=r"20 names of cells stand in .*b.h5ad and in .*c.h5ad: cell00, cell01, cell02, ",
    ):
        read(*paths)
    sources, _ = read(*paths, repeated_cells="prefix")
    assert [source.names(np.array([1]))[0] for source in sources] == [
        "a:z1",
        "b:cell01",
        "c:cell01",
    ]
    paths = [write_h5ad(tmp_path / folder / "a.h5ad", table) for folder in ("s1", "s2")]
    sources, _ = read(*paths, repeated_cells="prefix")
    assert sources[1].names(np.array([1])).tolist() == ["s2/a:cell01"]
    assert len({source.data_digest for source in sources}) == 2


def test_a_missing_column_of_labels_is_named_with_those_that_exist(tmp_path, table):
    obs = pd.DataFrame({"kind": "T", "plate": "p1"}, index=table.cells)
    path = write_h5ad(tmp_path / "a.h5ad", replace(table, obs=obs))
    with pytest.raises(
        InputError,
        match=r"no obs column 'type'; its columns are kind, plate. Set atlases.tiny.cell_type_key",
    ):
        read(path, cell_type_key="type")
    with pytest.raises(InputError, match=r"'age'.*Set atlases.tiny.obs_columns"):
        read(path, obs_columns=["age"])
    with pytest.raises(InputError, match=r"no obs column 'batch'; its columns are none"):
        read(write_tenx_h5(tmp_path / "a.h5", [table]), batch_key="batch")


def test_damaged_labels_are_named(tmp_path, table):
    obs = pd.DataFrame({"kind": pd.Categorical(["T", "B"] * 10)}, index=table.cells)
    path = write_h5ad(tmp_path / "a.h5ad", replace(table, obs=obs))
    with h5py.File(path, "r+") as file:
        file["obs/kind/codes"][3] = 7
    with pytest.raises(InputError, match="obs column 'kind' has code 7; expected -1 to 1"):
        read(path, cell_type_key="kind")


@pytest.mark.parametrize(("shape", "what"), [((0, 3), "cells"), ((3, 0), "genes")])
def test_a_file_without_cells_or_genes_is_refused(tmp_path, shape, what):
    ad.AnnData(sp.csr_matrix(shape, dtype=np.float32)).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match=f"has no {what}"):
        read(tmp_path / "a.h5ad")


def test_features_with_lines_of_other_lengths_are_refused(tmp_path, table):
    folder = write_mtx(tmp_path / "mtx", [table])
    path = folder / "features.tsv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    write_lines(path, [*lines[:-1], "ENSG00000000009"])
    with pytest.raises(InputError, match=r"features.tsv.gz has too few columns in some line"):
        read(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"obs_columns": ["batch"]}, "obs_columns names batch, which the store has of its own"),
        ({"obs_columns": ["a", "a"]}, "names a column twice"),
        ({"orthologs": "o.csv"}, "species and ortholog_species are both human"),
        ({"artifact": {"instance": "a/b", "key": "c"}}, "come from rna or atac and artifact"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Atlas(rna={"paths": ["a.h5ad"]}, **settings)
