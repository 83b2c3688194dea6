import os
import pickle
import shutil
import subprocess
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.loading.anndata_cells import (
    NUM_CELLS,
    NUM_GENES,
    assert_rows,
    read_in_threads,
    rows_at,
    small_cells,
)
from vcpipe.data.loading import zarr_reader, zarr_writing
from vcpipe.data.loading.h5ad_reader import H5adReader
from vcpipe.data.loading.zarr_reader import ZarrReader
from vcpipe.data.loading.zarr_writing import write_collection
from vcpipe.data.rows import Rows
from vcpipe.errors import InputError

CELLS = small_cells()
COUNTS = CELLS.X.toarray().astype(np.int64)


@pytest.fixture(scope="module")
def h5ad(tmp_path_factory) -> H5adReader:
    path = tmp_path_factory.mktemp("h5ad") / "cells.h5ad"
    CELLS.write_h5ad(path)
    return H5adReader([path])


def write(reader, path: Path, **options) -> ZarrReader:
    write_collection(reader, path, CELLS.obs, CELLS.var_names, **options)
    return ZarrReader(path)


def write_anndata(path: Path, cells: ad.AnnData, key: str = "/") -> None:
    with ad.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        root = zarr.open_group(path, mode="a", zarr_format=3)
        ad.io.write_elem(root, key, cells)


@pytest.fixture(scope="module")
def readers(h5ad, tmp_path_factory) -> dict[str, ZarrReader]:
    """The same cells in every layout that is read."""
    folder = tmp_path_factory.mktemp("zarr")
    with pytest.MonkeyPatch.context() as patch:
        # Several files of several chunks each, and blocks that do not end where those do.
        patch.setattr(zarr_writing, "CHUNKS_PER_SHARD", 3)
        patch.setattr(zarr_writing, "CELLS_AT_A_TIME", 7)
        found = {
            "one": write(h5ad, folder / "one.zarr", chunk_cells=4),
            "three": write(h5ad, folder / "three.zarr", cells_per_dataset=25, chunk_cells=2),
            "zstd": write(h5ad, folder / "zstd.zarr", compression="zstd"),
            "single": write(h5ad, folder / "single.zarr", cells_per_dataset=30, chunk_cells=1),
        }
    write_anndata(folder / "anndata.zarr", CELLS)
    found["anndata"] = ZarrReader(folder / "anndata.zarr")
    # Datasets that were written apart, in types of their own, more than ten of them.
    path = folder / "apart.zarr"
    for number in range(12):
        its = CELLS[5 * number : 5 * number + 5].copy()
        its.X = its.X.astype([np.float32, np.int64, np.uint16][number % 3])
        write_anndata(path, its, f"dataset_{number}")
    zarr.open_group(path, mode="a").attrs.update(zarr_reader.COLLECTION)
    found["apart"] = ZarrReader(path)
    return found


FORMS = ["one", "three", "zstd", "single", "anndata", "apart"]


@pytest.mark.parametrize("form", FORMS)
@given(positions=st.lists(st.integers(0, NUM_CELLS - 1), max_size=80))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_positions_are_what_the_h5ad_gives(readers, h5ad, form, positions):
    rows, expected = rows_at(readers[form], positions), rows_at(h5ad, positions)
    assert_rows(rows, COUNTS[positions])
    for name in ("starts", "ids", "counts", "totals"):
        assert np.array_equal(getattr(rows, name), getattr(expected, name))


@pytest.mark.parametrize("form", FORMS)
def test_places_of_a_buffer_are_given_in_any_order(readers, form):
    buffer = readers[form].read(np.array([50, 3, 3, 8, 9, 0]))
    assert buffer.positions.tolist() == [50, 3, 3, 8, 9, 0]
    assert_rows(buffer.rows(np.array([5, 1, 0, 2, 1])), COUNTS[[0, 3, 50, 3, 3]])


@pytest.mark.parametrize("form", ["one", "three"])
def test_threads_that_ask_at_once_get_their_own_cells(readers, form):
    for positions, rows in read_in_threads(readers[form], 30):
        assert_rows(rows, COUNTS[positions])


def test_cells_that_follow_each_other_are_one_slice(readers):
    (matrix,) = readers["one"].matrices
    assert matrix.stretches(np.arange(10, 40)).tolist() == [[10, 40]]
    # Cells of one chunk too, as it is decoded whole.
    its = np.flatnonzero(matrix.starts[:-1] // matrix.chunk == 3)
    assert len(its) > 2
    assert matrix.stretches(np.array([its[0], its[-1], 55])).tolist() == [
        [its[0], its[-1] + 1],
        [55, 56],
    ]
    # A cell without counts is in no chunk.
    assert matrix.spans(np.array([[7, 9], [30, 31]])) == [slice(*matrix.starts[[30, 31]].tolist())]


def test_a_range_is_a_part_of_the_cells_with_the_same_keys(readers):
    whole = readers["three"]
    part = ZarrReader(whole.path, first=5, stop=30)
    assert len(part) == 25
    assert_rows(rows_at(part, [24, 0, 4]), COUNTS[[29, 5, 9]])
    assert np.array_equal(rows_at(part, [24, 0, 4]).keys, rows_at(whole, [29, 5, 9]).keys)
    assert len(set(rows_at(whole, np.arange(NUM_CELLS)).keys.tolist())) == NUM_CELLS
    with pytest.raises(InputError, match=r"has 60 cells; the range 3:61 is empty or"):
        ZarrReader(whole.path, first=3, stop=61)


def test_a_pickled_reader_opens_the_collection_anew(readers):
    reader = pickle.loads(pickle.dumps(readers["three"]))
    assert_rows(rows_at(reader, [59, 8, 7]), COUNTS[[59, 8, 7]])


def test_a_block_is_the_cells_of_a_chunk(readers):
    assert readers["one"].block_size == 4
    assert readers["single"].block_size == 1


def test_genes_sizes_and_files_are_told(readers):
    reader = readers["three"]
    assert len(reader) == NUM_CELLS
    assert reader.num_genes == NUM_GENES
    assert reader.genes.tolist() == CELLS.var_names.tolist()
    assert reader.files == [reader.path]
    assert reader.bytes > 0


@pytest.mark.parametrize("form", ["one", "three", "anndata", "apart"])
def test_labels_are_those_of_the_h5ad(readers, h5ad, form):
    columns = ["line", "drug", "dose"]
    labels, expected = readers[form].label_codes(columns), h5ad.label_codes(columns)
    assert list(labels.words) == list(expected.words)
    assert np.array_equal(labels.codes(0, NUM_CELLS), expected.codes(0, NUM_CELLS))
    assert (labels.codes(0, NUM_CELLS) == -1).any()


def test_an_unknown_column_is_refused_with_those_that_exist(readers):
    with pytest.raises(InputError, match=r"no column 'plate'; its columns are drug, line, dose"):
        readers["three"].label_codes(["plate"])


def test_a_collection_is_what_annbatch_takes_for_one(readers):
    """The rules of annbatch 0.3.1: V1_ENCODING and _dataset_keys (io.py), use_collection, and
    _add_dataset_unchecked (loader.py), which wants one var and one dtype."""
    root = zarr.open_group(readers["three"].path, mode="r")
    assert root.metadata.zarr_format == 3
    marks = {"encoding-type": "annbatch-preshuffled", "encoding-version": "0.1.0"}
    assert marks.items() <= root.attrs.items()
    assert sorted(root.group_keys()) == ["dataset_0", "dataset_1", "dataset_2"]
    kinds, parts = set(), []
    for name in sorted(root.group_keys()):
        group = root[name]
        matrix = ad.io.sparse_dataset(group["X"])
        assert matrix.format == "csr"
        kinds.add((group["X/data"].dtype.name, group["X/indices"].dtype.name))
        assert group["X/data"].shards[0] % group["X/data"].chunks[0] == 0
        assert set(group["obs"].attrs["column-order"]) == set(CELLS.obs)
        parts.append(ad.io.read_elem(group))
    assert kinds == {("float32", "uint8")}
    together = ad.concat(parts)
    assert np.array_equal(together.X.toarray(), COUNTS)
    assert together.obs_names.equals(CELLS.obs_names)
    # annbatch counts classes by categories, which must be the same in all datasets.
    assert len({tuple(part.obs["drug"].cat.categories) for part in parts}) == 1
    assert len({tuple(part.obs["line"].cat.categories) for part in parts}) == 1
    assert together.obs["drug"].astype(object).equals(CELLS.obs["drug"].astype(object))


ASK_ANNBATCH = """
import sys, numpy as np
from annbatch import DatasetCollection, Loader
collection = DatasetCollection(sys.argv[1], mode="r")
assert not collection.is_empty
assert len(collection.obs(["drug"])) == 60
loader = Loader(batch_size=5, chunk_size=5, preload_nchunks=2, shuffle=False, preload_to_gpu=False)
batches = list(loader.use_collection(collection))
counts = np.concatenate([batch["X"].toarray() for batch in batches])
np.save(sys.argv[2], counts)
"""


@pytest.mark.upstream
def test_annbatch_reads_a_collection(readers, tmp_path):
    """In a Python 3.12 with annbatch, which ANNBATCH_PYTHON names."""
    if "ANNBATCH_PYTHON" not in os.environ:
        pytest.skip("set ANNBATCH_PYTHON to a Python 3.12 or later that has annbatch")
    for form in ("one", "three"):
        out = tmp_path / f"{form}.npy"
        command = [os.environ["ANNBATCH_PYTHON"], "-c", ASK_ANNBATCH, readers[form].path, out]
        subprocess.run(command, check=True, timeout=300)
        assert np.array_equal(np.load(out), COUNTS)


def test_a_collection_is_written_in_the_order_of_any_reader(readers, tmp_path):
    obs = CELLS.obs.rename_axis("drug")  # the name of a column, but with other values
    write_collection(
        readers["three"], tmp_path / "again.zarr", obs, CELLS.var_names, cells_per_dataset=31
    )
    again = ZarrReader(tmp_path / "again.zarr")
    assert_rows(rows_at(again, np.arange(NUM_CELLS)), COUNTS)
    part = ZarrReader(readers["three"].path, first=10, stop=20)
    write_collection(part, tmp_path / "part.zarr", {"batch": ["a"] * 10}, CELLS.var_names)
    found = ZarrReader(tmp_path / "part.zarr")
    assert_rows(rows_at(found, np.arange(10)), COUNTS[10:20])
    assert list(found.label_codes(["batch"]).words) == [("a",)]


def test_cells_without_counts_are_written_and_read(tmp_path):
    empty = ad.AnnData(sp.csr_matrix((4, 3), dtype=np.float32))
    empty.write_h5ad(tmp_path / "empty.h5ad")
    reader = H5adReader([tmp_path / "empty.h5ad"])
    write_collection(reader, tmp_path / "empty.zarr", pd.DataFrame(index=range(4)), list("abc"))
    assert_rows(rows_at(ZarrReader(tmp_path / "empty.zarr"), [3, 0]), np.zeros((2, 3), np.int64))


def test_labels_of_other_cells_are_refused(h5ad, tmp_path):
    with pytest.raises(InputError, match=r"labels of 59 cells, but the reader has 60; give a row"):
        write_collection(h5ad, tmp_path / "a.zarr", CELLS.obs[1:], CELLS.var_names)


def test_genes_without_a_name_are_refused_and_nothing_is_left(h5ad, tmp_path):
    with pytest.raises(InputError, match=r"has gene number 39, but there are 12 names of genes"):
        write_collection(h5ad, tmp_path / "a.zarr", CELLS.obs, CELLS.var_names[:12])
    assert not list(tmp_path.iterdir())


class OneLargeCount:
    block_size = 1

    def __len__(self):
        return 1

    def read(self, positions):
        return self

    def rows(self, places):
        count = np.array([2**24 + 1])
        return Rows(
            np.array([0, 1]),
            np.zeros(1, np.int32),
            count.astype(np.uint32),
            count.astype(np.uint64),
            np.zeros(1, np.uint64),
        )


def test_a_count_that_float32_cannot_hold_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has count 16777217; .* exact up to 16777216"):
        write_collection(OneLargeCount(), tmp_path / "a.zarr", {"a": ["b"]}, ["gene"])


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (-2, "-2.0"), (np.nan, "nan")])
def test_other_numbers_than_counts_are_refused_by_cell_gene_and_value(tmp_path, value, shown):
    path = tmp_path / "cells.zarr"
    write_anndata(path, CELLS, "dataset_0")
    cells = small_cells()
    cells.X[33, 12] = value
    write_anndata(path, cells, "dataset_1")
    zarr.open_group(path, mode="a").attrs.update(zarr_reader.COLLECTION)
    with pytest.raises(
        InputError, match=rf"cells.zarr is {shown} in cell 'cell33', gene 'gene12'; expected raw"
    ):
        rows_at(ZarrReader(path), [NUM_CELLS + 40, 3, NUM_CELLS + 33])


def test_datasets_with_other_genes_are_refused_by_the_first_that_differs(tmp_path):
    path = tmp_path / "cells.zarr"
    write_anndata(path, CELLS, "dataset_0")
    write_anndata(path, CELLS[:, ::-1].copy(), "dataset_1")
    zarr.open_group(path, mode="a").attrs.update(zarr_reader.COLLECTION)
    with pytest.raises(
        InputError, match=r"dataset_1 has other genes than .*dataset_0 .* 'gene39', there 'gene00'"
    ):
        ZarrReader(path)


def test_what_is_no_collection_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a.zarr does not exist; expected an annbatch collection"):
        ZarrReader(tmp_path / "a.zarr")
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(InputError, match=r"a.zarr is no zarr group .* expected an annbatch"):
        ZarrReader(tmp_path / "a.zarr")
    write_anndata(tmp_path / "b.zarr", CELLS, "dataset_0")
    with pytest.raises(
        InputError, match=r"b.zarr has attributes \{\} and holds dataset_0; expected .*preshuffled"
    ):
        ZarrReader(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (CELLS.X.tocsc(), r"a.zarr: X is encoded as 'csc_matrix'; expected csr_matrix"),
        (CELLS.X.toarray(), r"a.zarr: X is encoded as 'array'; expected csr_matrix"),
        (None, r"a.zarr: X is not there; expected counts"),
    ],
)
def test_another_matrix_than_csr_is_refused(tmp_path, matrix, said):
    write_anndata(tmp_path / "a.zarr", ad.AnnData(matrix, CELLS.obs, CELLS.var))
    with pytest.raises(InputError, match=said):
        ZarrReader(tmp_path / "a.zarr")


def test_a_matrix_of_another_size_is_refused(tmp_path):
    write_anndata(tmp_path / "a.zarr", CELLS)
    zarr.open_group(tmp_path / "a.zarr", mode="a")["X"].attrs["shape"] = [59, 40]
    with pytest.raises(InputError, match=r"X is no CSR matrix of 59 × 40: it has 61 row starts"):
        ZarrReader(tmp_path / "a.zarr")


@pytest.mark.parametrize("array", ["data", "indices"])
def test_a_file_that_is_lost_is_refused_and_not_taken_for_zeros(readers, tmp_path, array):
    path = tmp_path / "a.zarr"
    shutil.copytree(readers["three"].path, path)
    (path / f"dataset_1/X/{array}/c/1").unlink()
    with pytest.raises(InputError, match=rf"dataset_1/X/{array} has \d+ files; expected \d+"):
        ZarrReader(path)


def test_a_chunk_that_cannot_be_decoded_is_refused(readers, tmp_path):
    path = tmp_path / "a.zarr"
    shutil.copytree(readers["three"].path, path)
    reader = ZarrReader(path)
    file = path / "dataset_1/X/data/c/0"
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(InputError, match=r"a.zarr cannot be decoded .*write or download it again"):
        rows_at(reader, [26])
