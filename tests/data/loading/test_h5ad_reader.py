import multiprocessing
import pickle
from types import SimpleNamespace

import anndata as ad
import h5py
import numpy as np
import pytest
import scdataset.scdataset
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scdataset import scDataset

from tests.data.loading.anndata_cells import (
    NUM_CELLS,
    NUM_GENES,
    assert_rows,
    read_in_threads,
    rows_at,
    small_cells,
)
from vcpipe.data.loading import scdataset_fetching
from vcpipe.data.loading.h5ad_reader import H5adReader
from vcpipe.errors import InputError

CELLS = small_cells()
COUNTS = CELLS.X.toarray().astype(np.int64)


def unordered_csr() -> sp.csr_matrix:
    """The same counts with columns of a cell backwards, a column in two parts, and a zero."""
    entries = [
        [(column, count) for column, count in enumerate(row) if count][::-1] for row in COUNTS
    ]
    column, count = entries[1][0]
    assert count > 1
    entries[1][:1] = [(column, 1), (column, count - 1)]
    entries[2].insert(0, (5, 0))
    indptr = np.append(0, np.cumsum([len(row) for row in entries]))
    columns, counts = zip(*(pair for row in entries for pair in row), strict=True)
    matrix = sp.csr_matrix((NUM_CELLS, NUM_GENES), dtype=np.float32)
    matrix.indptr, matrix.indices = indptr.astype(np.int32), np.array(columns, dtype=np.int32)
    matrix.data = np.array(counts, dtype=np.float32)
    return matrix


@pytest.fixture(scope="module")
def readers(tmp_path_factory) -> dict[str, H5adReader]:
    """The same cells in every layout that is read."""
    folder = tmp_path_factory.mktemp("h5ad")
    forms = {
        "csr": CELLS.X,
        "gzip": CELLS.X,
        "int64": CELLS.X.astype(np.int64),
        "dense": CELLS.X.toarray(),
        "unordered": unordered_csr(),
    }
    for name, matrix in forms.items():
        options = {"compression": "gzip"} if name == "gzip" else {}
        ad.AnnData(matrix, CELLS.obs, CELLS.var).write_h5ad(folder / f"{name}.h5ad", **options)
    layered = ad.AnnData(CELLS.X / 7, CELLS.obs, CELLS.var, layers={"counts": CELLS.X})
    layered.write_h5ad(folder / "layer.h5ad")
    parts = [folder / f"part{number}.h5ad" for number in range(3)]
    for path, its in zip(parts, (slice(0, 8), slice(8, 9), slice(9, 60)), strict=True):
        CELLS[its].copy().write_h5ad(path)
    found = {name: H5adReader([folder / f"{name}.h5ad"]) for name in forms}
    found["layer"] = H5adReader([folder / "layer.h5ad"], layer="counts")
    found["files"] = H5adReader(parts)
    return found


FORMS = ["csr", "gzip", "int64", "dense", "unordered", "layer", "files"]


@pytest.mark.parametrize("form", FORMS)
@given(positions=st.lists(st.integers(0, NUM_CELLS - 1), max_size=80))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_positions_are_read_in_the_order_asked_for(readers, form, positions):
    assert_rows(rows_at(readers[form], positions), COUNTS[positions])


@pytest.mark.parametrize("form", FORMS)
def test_places_of_a_buffer_are_given_in_any_order(readers, form):
    buffer = readers[form].read(np.array([50, 3, 3, 8, 9, 0]))
    assert buffer.positions.tolist() == [50, 3, 3, 8, 9, 0]
    assert_rows(buffer.rows(np.array([5, 1, 0, 2, 1])), COUNTS[[0, 3, 50, 3, 3]])
    assert_rows(buffer.rows(np.array([], dtype=np.int64)), COUNTS[:0])


@pytest.mark.parametrize("form", ["csr", "dense", "files"])
def test_threads_that_ask_at_once_get_their_own_cells(readers, form):
    for positions, rows in read_in_threads(readers[form], 30):
        assert_rows(rows, COUNTS[positions])


def test_each_buffer_is_fetched_through_scdataset(readers, monkeypatch):
    its_own, batches = scDataset.__iter__, []

    def watched(dataset):
        for batch in its_own(dataset):
            batches.append((dataset, batch))
            yield batch

    monkeypatch.setattr(scDataset, "__iter__", watched)
    rows = rows_at(readers["csr"], [9, 2, 9, 30])
    ((dataset, batch),) = batches
    assert dataset.collection is readers["csr"]
    assert batch[0].tolist() == [2, 9, 30]
    assert_rows(rows, COUNTS[[9, 2, 9, 30]])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_worker_of_a_dataloader_gets_what_it_asks_for(readers, monkeypatch, number):
    worker = SimpleNamespace(id=number, num_workers=3)
    for module in (scdataset.scdataset, scdataset_fetching):
        monkeypatch.setattr(module, "get_worker_info", lambda: worker)
    assert_rows(rows_at(readers["csr"], [9, 2, 9, 30]), COUNTS[[9, 2, 9, 30]])


def test_a_range_is_a_part_of_the_cells_with_the_same_keys(readers):
    whole, files = readers["files"], readers["files"].files
    part = H5adReader(files, first=5, stop=20)
    assert len(part) == 15
    assert_rows(rows_at(part, [14, 0, 4]), COUNTS[[19, 5, 9]])
    assert np.array_equal(rows_at(part, [14, 0, 4]).keys, rows_at(whole, [19, 5, 9]).keys)


def test_cells_of_files_of_one_name_have_keys_of_their_own(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        CELLS.write_h5ad(tmp_path / folder / "cells.h5ad")
    reader = H5adReader([tmp_path / "a/cells.h5ad", tmp_path / "b/cells.h5ad"])
    keys = rows_at(reader, np.arange(2 * NUM_CELLS)).keys
    assert len(set(keys.tolist())) == 2 * NUM_CELLS
    alone = H5adReader([tmp_path / "b/cells.h5ad"])
    assert np.array_equal(rows_at(alone, np.arange(NUM_CELLS)).keys, keys[:NUM_CELLS])


def test_a_pickled_reader_opens_the_files_anew(readers):
    reader = pickle.loads(pickle.dumps(readers["files"]))
    assert_rows(rows_at(reader, [59, 8, 7]), COUNTS[[59, 8, 7]])
    assert np.array_equal(rows_at(reader, [9]).keys, rows_at(readers["files"], [9]).keys)


def _put_rows(reader, queue):
    queue.put(rows_at(reader, [40, 3]).counts)


def test_a_forked_process_opens_the_files_anew(readers):
    expected = rows_at(readers["csr"], [40, 3]).counts
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_put_rows, args=(readers["csr"], queue))
    process.start()
    assert np.array_equal(queue.get(timeout=60), expected)
    process.join()


def test_genes_sizes_and_files_are_told(readers):
    reader = readers["files"]
    assert len(reader) == NUM_CELLS
    assert reader.num_genes == NUM_GENES
    assert reader.genes.tolist() == CELLS.var_names.tolist()
    assert reader.block_size == 1
    assert reader.bytes == sum(path.stat().st_size for path in reader.files)


@pytest.mark.parametrize("form", ["csr", "files"])
def test_labels_have_numbers_in_the_order_of_their_words(readers, form):
    labels = readers[form].label_codes(["drug"])
    assert list(labels.words) == [("DMSO",), ("aspirin",)]
    codes = labels.codes(0, 6)
    assert codes.dtype == np.int64
    assert codes.tolist() == [1, 0, -1, 1, 0, -1]


@pytest.mark.parametrize("form", ["csr", "files"])
def test_a_combination_is_missing_where_one_of_its_labels_is(readers, form):
    labels = readers[form].label_codes(["line", "drug", "dose"])
    assert len(labels.words) == 8
    assert list(labels.words) == sorted(labels.words)
    codes = labels.codes(0, NUM_CELLS)
    for cell, (line, drug, dose) in enumerate(CELLS.obs[["line", "drug", "dose"]].to_numpy()):
        if line == "nan" or drug not in ("DMSO", "aspirin"):
            assert codes[cell] == -1
        else:
            assert labels.words[codes[cell]] == (line, drug, str(dose))


def test_labels_of_a_range_are_those_of_its_cells(readers):
    labels = H5adReader(readers["files"].files, first=31).label_codes(["line"])
    assert list(labels.words) == [("K562",)]
    assert labels.codes(8, 11).tolist() == [0, -1, 0]


def test_labels_that_all_cells_lack_have_no_words(tmp_path):
    cells = CELLS.copy()
    cells.obs["drug"] = cells.obs["drug"].cat.set_categories(["unseen"])
    cells.write_h5ad(tmp_path / "a.h5ad")
    labels = H5adReader([tmp_path / "a.h5ad"]).label_codes(["line", "drug"])
    assert not labels.words
    assert (labels.codes(0, NUM_CELLS) == -1).all()


def test_an_unknown_column_is_refused_with_those_that_exist(readers):
    with pytest.raises(InputError, match=r"no column 'plate'; its columns are drug, line, dose"):
        readers["csr"].label_codes(["plate"])


def test_a_column_of_measurements_is_no_label(readers):
    with pytest.raises(InputError, match=r"column 'share' holds float64; labels are"):
        readers["csr"].label_codes(["drug", "share"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0, 1], r"column 'line' has 2 values; expected 60, one for each cell. The file is dam"),
        ([0] * 59 + [9], r"column 'line' cannot be read .*The file is damaged"),
    ],
)
def test_a_damaged_column_is_refused(tmp_path, values, said):
    cells = CELLS.copy()
    cells.obs["line"] = cells.obs["line"].astype("category")
    cells.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        attributes = dict(file["obs/line/codes"].attrs)
        del file["obs/line/codes"]
        file["obs/line/codes"] = np.array(values, dtype=np.int8)
        file["obs/line/codes"].attrs.update(attributes)
    with pytest.raises(InputError, match=said):
        H5adReader([tmp_path / "a.h5ad"]).label_codes(["line"])


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (-2, "-2.0"), (np.nan, "nan")])
def test_other_numbers_than_counts_are_refused_by_cell_gene_and_value(tmp_path, value, shown):
    cells = small_cells()
    cells.X[33, 12] = value
    CELLS.write_h5ad(tmp_path / "good.h5ad")
    cells.write_h5ad(tmp_path / "bad.h5ad")
    reader = H5adReader([tmp_path / "good.h5ad", tmp_path / "bad.h5ad"])
    rows_at(reader, [NUM_CELLS + 32])
    with pytest.raises(
        InputError, match=rf"bad.h5ad: X is {shown} in cell 'cell33', gene 'gene12'; expected raw"
    ):
        rows_at(reader, [NUM_CELLS + 40, 3, NUM_CELLS + 33])


@pytest.mark.parametrize(
    ("genes", "said"),
    [
        ([1, 0, *range(2, 40)], r"\(40 and 40\): number 1 is 'gene01', there 'gene00'"),
        (range(39), r"\(39 and 40\): number 40 is none, there 'gene39'"),
    ],
)
def test_files_with_other_genes_are_refused_by_the_first_that_differs(tmp_path, genes, said):
    CELLS.write_h5ad(tmp_path / "a.h5ad")
    CELLS[:, list(genes)].copy().write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(InputError, match=rf"b.h5ad has other genes than .*a.h5ad {said}. Bring"):
        H5adReader([tmp_path / "a.h5ad", tmp_path / "b.h5ad"])


@pytest.mark.parametrize(("first", "stop"), [(0, 61), (5, 5), (-1, 3)])
def test_a_range_beyond_the_cells_is_refused(readers, first, stop):
    with pytest.raises(InputError, match=rf"has 60 cells; the range {first}:{stop} is empty or"):
        H5adReader(readers["csr"].files, first=first, stop=stop)


def test_no_files_are_refused():
    with pytest.raises(InputError, match="no h5ad file to read cells from; name at least one"):
        H5adReader([])


def test_a_file_that_is_missing_or_no_h5ad_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a.h5ad does not exist; expected an h5ad"):
        H5adReader([tmp_path / "a.h5ad"])
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["X"] = np.ones((2, 2))
    with pytest.raises(InputError, match=r"not an h5ad: it has no obs, var. Write it with anndata"):
        H5adReader([tmp_path / "a.h5ad"])


def test_an_unknown_layer_is_refused_with_those_that_exist(readers):
    with pytest.raises(InputError, match=r"has no layers/raw; its layers are counts"):
        H5adReader(readers["layer"].files, layer="raw")


def test_a_matrix_by_gene_is_refused(tmp_path):
    ad.AnnData(CELLS.X.tocsc(), CELLS.obs, CELLS.var).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match=r"stored by gene \(csc_matrix\).*X.tocsr"):
        H5adReader([tmp_path / "a.h5ad"])


def test_a_matrix_without_a_row_for_each_cell_is_refused(tmp_path):
    CELLS.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        file["X"].attrs["shape"] = [59, 40]
    with pytest.raises(InputError, match=r"X is 59 × 40, but obs and var name 60 cells and 40"):
        H5adReader([tmp_path / "a.h5ad"])


def test_a_block_that_cannot_be_decoded_is_refused(tmp_path):
    CELLS.write_h5ad(tmp_path / "a.h5ad", compression="gzip")
    with h5py.File(tmp_path / "a.h5ad") as file:
        chunk = file["X/data"].id.get_chunk_info(0)
    reader = H5adReader([tmp_path / "a.h5ad"])
    with (tmp_path / "a.h5ad").open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    with pytest.raises(InputError, match=r"a.h5ad is damaged .*write or download it again"):
        rows_at(reader, [3])
