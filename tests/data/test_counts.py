import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from vcpipe.data.counts import open_counts
from vcpipe.errors import InputError


@pytest.fixture
def path(counts, tmp_path):
    counts.write_h5ad(tmp_path / "raw.h5ad")
    return tmp_path / "raw.h5ad"


@pytest.fixture
def read_with_value(counts, tmp_path):
    """Read the tiny screen with another value in cell 30, gene 4."""

    def read(value: float, values: np.ndarray | None = None):
        dense = counts.X.toarray() if values is None else values
        dense[30, 4] = value
        counts.X = sp.csr_matrix(dense)
        counts.write_h5ad(tmp_path / "raw.h5ad")
        return list(open_counts(tmp_path / "raw.h5ad", "tiny").chunks(chunk=16))

    return read


@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()])
@pytest.mark.parametrize("chunk", [7, 120, 1000])
def test_chunks_put_together_are_the_matrix(counts, tmp_path, layout, chunk):
    expected = counts.X.toarray()
    counts.X = layout(counts.X)
    counts.write_h5ad(tmp_path / "raw.h5ad")
    rows, blocks = zip(*open_counts(tmp_path / "raw.h5ad", "tiny").chunks(chunk=chunk), strict=True)
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(120))
    np.testing.assert_array_equal(sp.vstack(blocks).toarray(), expected)
    assert all(block.dtype == np.float32 for block in blocks)


def test_only_the_wanted_rows_are_given(counts, path):
    wanted = np.arange(120) % 3 == 1
    rows, blocks = zip(*open_counts(path, "tiny").chunks(wanted, chunk=10), strict=True)
    np.testing.assert_array_equal(np.concatenate(rows), np.flatnonzero(wanted))
    np.testing.assert_array_equal(sp.vstack(blocks).toarray(), counts.X[wanted].toarray())


def test_explicit_zeros_are_left_out(counts, tmp_path):
    counts.X.data[:5] = 0
    counts.write_h5ad(tmp_path / "raw.h5ad")
    (_, block), *_ = open_counts(tmp_path / "raw.h5ad", "tiny").chunks()
    assert block.nnz == counts.X.nnz - 5


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none.h5ad does not exist; expected an h5ad"):
        open_counts(tmp_path / "none.h5ad", "tiny")


def test_a_folder_is_no_h5ad(tmp_path):
    with pytest.raises(InputError, match="is a folder; expected an h5ad file"):
        open_counts(tmp_path, "tiny")


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "raw.h5ad").touch()
    with pytest.raises(InputError, match=r"is empty \(0 bytes\)"):
        open_counts(tmp_path / "raw.h5ad", "tiny")


def test_a_text_file_is_no_h5ad(tmp_path):
    (tmp_path / "raw.h5ad").write_text("cell,gene\n")
    with pytest.raises(InputError, match=r"\(10 bytes\) is not an h5ad \(not HDF5\)"):
        open_counts(tmp_path / "raw.h5ad", "tiny")


def test_hdf5_of_another_kind_is_refused_with_what_it_holds(tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["matrix"] = [1]
    with pytest.raises(InputError, match="has no obs, var, X; it holds matrix"):
        open_counts(tmp_path / "raw.h5", "tiny")


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.8, 0.999])
def test_a_truncated_file_is_said_to_be_truncated_with_its_sizes(counts, path, compression, share):
    counts.write_h5ad(path, compression=compression)
    content = path.read_bytes()
    size = int(share * len(content))
    path.write_bytes(content[:size])
    with pytest.raises(
        InputError,
        match=rf"raw.h5ad is truncated: it has {size} bytes and should have {len(content)}; "
        "write or download it again",
    ):
        open_counts(path, "tiny")


def test_a_file_that_ends_inside_its_counts_is_truncated(path):
    with h5py.File(path) as file:
        block = file["X/data"].id.get_chunk_info(0)
        size = block.byte_offset + block.size // 2
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=f"is truncated: it has {size} bytes and should have"):
        open_counts(path, "tiny")


@pytest.mark.parametrize("size", [4, 12])
def test_a_file_of_a_few_bytes_is_named_with_its_size(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=rf"raw.h5ad \({size} bytes\) is (not an h5ad|unreadable)"):
        open_counts(path, "tiny")


def test_names_that_are_overwritten_mean_a_damaged_file(path):
    with h5py.File(path) as file:
        place = h5py.h5o.get_info(file["obs"].id).addr
    content = bytearray(path.read_bytes())
    content[place : place + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bytes\) is damaged .*Unable to"):
        open_counts(path, "tiny")


def test_a_block_that_cannot_be_decompressed_means_a_damaged_file(counts, path):
    counts.write_h5ad(path, compression="gzip")
    with h5py.File(path) as file:
        place = file["X/data"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged .* write or download it again"):
        list(open_counts(path, "tiny").chunks())


def test_columns_outside_the_genes_mean_a_damaged_file(path):
    with h5py.File(path, "r+") as file:
        file["X/indices"][3] = 99
    with pytest.raises(InputError, match="column indices outside its 30 genes"):
        list(open_counts(path, "tiny").chunks())


@pytest.mark.parametrize(("shape", "what"), [((0, 5), "cells"), ((5, 0), "genes")])
def test_a_matrix_without_cells_or_genes_is_refused(tmp_path, shape, what):
    ad.AnnData(sp.csr_matrix(shape, dtype=np.float32)).write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(InputError, match=f"has no {what}; expected raw counts"):
        open_counts(tmp_path / "raw.h5ad", "tiny")


def test_a_matrix_of_another_shape_than_its_names_is_refused(path):
    with h5py.File(path, "r+") as file:
        file["X"].attrs["shape"] = [119, 30]
    with pytest.raises(InputError, match=r"X is 119 × 30, but obs and var name 120 cells and 30"):
        open_counts(path, "tiny")


def test_a_missing_layer_is_named_with_the_layers_that_exist(counts, tmp_path):
    counts.layers["raw"] = counts.X
    counts.write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(
        InputError, match=r"'tiny' has no layer 'counts'; its layers are raw.*tiny.counts_layer"
    ):
        open_counts(tmp_path / "raw.h5ad", "tiny", counts_layer="counts")


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_repeated_gene_names_are_named(counts, tmp_path):
    counts.var_names = ["GENE01", *counts.var_names[1:]]
    counts.write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(InputError, match=r"gene names must be unique; GENE01 stand.*gene_name_key"):
        open_counts(tmp_path / "raw.h5ad", "tiny")


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_repeated_cell_names_are_named(counts, tmp_path):
    counts.obs_names = ["cell001", *counts.obs_names[1:]]
    counts.write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(InputError, match="cell names must be unique; cell001 stand"):
        open_counts(tmp_path / "raw.h5ad", "tiny")


def test_a_missing_gene_name_column_is_named_with_those_that_exist(counts, tmp_path):
    counts.var["symbol"] = counts.var_names
    counts.write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(
        InputError, match=r"no var column 'name'; its columns are symbol.*tiny.gene_name_key"
    ):
        open_counts(tmp_path / "raw.h5ad", "tiny", gene_name_key="name")


def test_genes_without_a_name_are_refused(counts, tmp_path):
    counts.var["symbol"] = pd.Categorical([None, *counts.var_names[1:]])
    counts.write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(InputError, match="1 genes without a name, first 'GENE00'"):
        open_counts(tmp_path / "raw.h5ad", "tiny", gene_name_key="symbol")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "X is nan in cell 'cell030', gene 'GENE04'; expected raw counts. Remove the cell"),
        (-1, "X is -1.0 in cell 'cell030', gene 'GENE04'.*Negative values come from scaling"),
        (np.inf, "X is inf in cell 'cell030', gene 'GENE04'.*are no UMI counts"),
        (2.0**25, "X is 33554432.0 in cell 'cell030'.*are no UMI counts"),
        (0.5, "X is 0.5 in cell 'cell030', gene 'GENE04'"),
    ],
)
def test_a_value_that_is_no_count_is_named_with_its_cell_and_gene(read_with_value, value, message):
    with pytest.raises(InputError, match=message):
        read_with_value(value)


def test_log_normalised_values_are_recognised(read_with_value, counts):
    dense = counts.X.toarray()
    logs = np.log1p(1e4 * dense / dense.sum(axis=1, keepdims=True))
    with pytest.raises(InputError, match="look log-normalised; set counts_layer"):
        read_with_value(0.0, logs)


def test_normalised_values_are_recognised(read_with_value, counts):
    dense = counts.X.toarray()
    with pytest.raises(InputError, match="look normalised or corrected; set counts_layer"):
        read_with_value(0.0, 1e4 * dense / dense.sum(axis=1, keepdims=True))
