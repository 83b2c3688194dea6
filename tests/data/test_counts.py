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


LAYOUTS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda x: x.toarray()}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("chunk", [7, 120, 1000])
def test_chunks_put_together_are_the_matrix(counts, tmp_path, layout, chunk):
    expected = counts.X.toarray()
    counts.X = layout(counts.X)
    counts.write_h5ad(tmp_path / "raw.h5ad")
    rows, blocks = zip(*open_counts(tmp_path / "raw.h5ad", "tiny").chunks(chunk=chunk), strict=True)
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(120))
    np.testing.assert_array_equal(sp.vstack(blocks).toarray(), expected)
    assert all(block.dtype == np.float32 for block in blocks)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint16", "bool"])
def test_counts_can_be_of_every_type_of_number(counts, path, layout, dtype):
    expected = counts.X.toarray().astype(dtype)
    counts.X = layout(counts.X)
    counts.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        place = "X" if layout is LAYOUTS["dense"] else "X/data"
        replace(file, place, file[place][:].astype(dtype))
    wanted = np.arange(120) % 3 > 0
    _, blocks = zip(*open_counts(path, "tiny").chunks(wanted, chunk=50), strict=True)
    np.testing.assert_array_equal(sp.vstack(blocks).toarray(), expected[wanted])


def replace(file: h5py.File, name: str, values) -> None:
    """Write other values in the place of an array, with its attributes."""
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    file[name].attrs.update(attributes)


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


@pytest.mark.parametrize("index", [-(10**6), -1, 120, 10**6])
def test_rows_outside_the_cells_mean_a_damaged_file(counts, path, index):
    counts.X = sp.csc_matrix(counts.X)
    counts.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file["X/indices"][3] = index
    with pytest.raises(
        InputError, match=rf"raw\.h5ad: X has row indices from .*{index}.*expected 0 to 119"
    ):
        list(open_counts(path, "tiny").chunks())


@pytest.mark.parametrize("place", [0, 3, 30])
def test_columns_of_csc_counts_that_begin_nowhere_mean_a_damaged_file(counts, path, place):
    counts.X = sp.csc_matrix(counts.X)
    counts.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file["X/indptr"][place] = 10**6
    with pytest.raises(InputError, match="X is no CSC matrix of 120 × 30: its indptr, 31 numbers"):
        list(open_counts(path, "tiny").chunks())


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.full((120, 30), "1", dtype=object), "has values of type object"),
        (np.zeros((120, 30), dtype=[("count", "i4")]), r"has values of type \[.'count', '<i4'.\]"),
        (np.zeros((120, 30), dtype=complex), "has values of type complex128"),
        (np.zeros(3600), r"has shape \(3600,\)"),
        (np.zeros((120, 30, 1)), r"has shape \(120, 30, 1\)"),
        (h5py.Empty("f4"), "has no shape"),
    ],
    ids=["strings", "structs", "complex", "1-d", "3-d", "null"],
)
def test_an_array_that_is_no_matrix_of_numbers_is_refused(path, values, found):
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = values
    with pytest.raises(
        InputError, match=rf"raw\.h5ad: X {found}; expected numbers.*datasets\.tiny\.counts_layer"
    ):
        open_counts(path, "tiny")


@pytest.mark.parametrize("encoding", ["coo_matrix", "dataframe", None])
def test_counts_in_an_unknown_encoding_are_refused(path, encoding):
    with h5py.File(path, "r+") as file:
        del file["X"].attrs["encoding-type"]
        if encoding:
            file["X"].attrs["encoding-type"] = encoding
    with pytest.raises(InputError, match=f"X is encoded as '?{encoding}.*csr_matrix or csc_matrix"):
        open_counts(path, "tiny")


@pytest.mark.parametrize(("shape", "found"), [(None, "no shape"), ([120], r"shape \(120,\)")])
def test_a_sparse_matrix_without_its_shape_is_refused(path, shape, found):
    with h5py.File(path, "r+") as file:
        del file["X"].attrs["shape"]
        if shape:
            file["X"].attrs["shape"] = shape
    with pytest.raises(InputError, match=f"X has {found}; expected numbers"):
        open_counts(path, "tiny")


def test_sparse_values_that_are_no_numbers_are_refused(path):
    with h5py.File(path, "r+") as file:
        replace(file, "X/data", np.full(len(file["X/data"]), "1", dtype=object))
    with pytest.raises(InputError, match="X has values of type object; expected numbers"):
        open_counts(path, "tiny")


@pytest.mark.parametrize(("layer", "encoding"), [("table", "dataframe"), ("tables", "dict")])
def test_a_layer_that_is_no_matrix_is_refused(path, layer, encoding):
    with h5py.File(path, "r+") as file:
        table = pd.DataFrame({"a": [1.0, 2.0]})
        ad.io.write_elem(file, "layers", {"table": table, "tables": {"table": table}})
    with pytest.raises(InputError, match=f"layers/{layer} is encoded as '{encoding}'; expected"):
        open_counts(path, "tiny", counts_layer=layer)


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


@pytest.mark.parametrize(
    ("column", "values", "shape"),
    [
        ("target_gene/codes", np.zeros(119, dtype="i1"), r"\(119,\)"),
        ("depth", np.zeros(121), r"\(121,\)"),
        ("depth", np.zeros((120, 2)), r"\(120, 2\)"),
        ("depth", np.float64(1), r"\(\)"),
    ],
)
def test_a_column_of_another_length_than_its_rows_is_named(counts, path, column, values, shape):
    counts.obs["depth"] = 1.0
    counts.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        replace(file, f"obs/{column}", values)
    name = column.split("/")[0]
    with pytest.raises(
        InputError,
        match=rf"raw\.h5ad: obs column '{name}' has shape {shape}; expected \(120,\).*again",
    ):
        open_counts(path, "tiny")


@pytest.mark.parametrize("code", [-2, 6, 100])
def test_labels_outside_their_categories_mean_a_damaged_file(path, code):
    with h5py.File(path, "r+") as file:
        file["obs/target_gene/codes"][7] = code
    with pytest.raises(
        InputError,
        match=f"obs column 'target_gene' has code {code}; expected -1 to 5.*6 categories",
    ):
        open_counts(path, "tiny")


def test_a_column_in_an_unknown_encoding_is_named(counts, path):
    counts.var["mean"] = 1.0
    counts.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file["var/mean"].attrs["encoding-type"] = "novel"
    with pytest.raises(InputError, match=r"raw\.h5ad: var cannot be read \(.*novel.*mean") as error:
        open_counts(path, "tiny")
    assert "\n" not in str(error.value)


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
