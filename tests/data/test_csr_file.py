import pickle

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from vcpipe.config.gears import Conversion
from vcpipe.data import hdf5
from vcpipe.data.csr_file import CsrFile, StoredRows
from vcpipe.data.gears import convert
from vcpipe.data.screen import open_screen
from vcpipe.errors import InputError


@pytest.fixture
def converted(counts, tmp_path, monkeypatch):
    """A screen whose arrays lie in many chunks, none of which ends where a row does."""
    monkeypatch.setattr(hdf5, "CHUNK", 37)
    counts.write_h5ad(tmp_path / "raw.h5ad")
    convert(tmp_path / "raw.h5ad", "tiny", Conversion(), tmp_path / "screen.h5ad")
    return tmp_path / "screen.h5ad"


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(3, 17),
        slice(5, 5),
        np.array([], dtype=int),
        np.array([7]),
        np.array([9, 2, 2, 3, 4, 119, 0]),
        np.arange(120)[::-1],
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["X", "layers/counts"])
def test_rows_come_in_the_order_they_are_asked_for(converted, name, rows):
    whole = ad.read_h5ad(converted)
    whole = whole.X if name == "X" else whole.layers["counts"]
    found = StoredRows(converted, name)[rows]
    assert found.dtype == np.float32
    assert found.shape == whole[rows].shape
    np.testing.assert_array_equal(found.toarray(), whole[rows].toarray())


def test_a_cell_is_read_without_its_neighbours(converted, monkeypatch):
    stored = StoredRows(converted, "X")
    read = []
    monkeypatch.setattr(stored.data, "read_into", lambda out, start: read.append((start, len(out))))
    stored[np.array([5, 6, 9])]
    starts = stored.starts
    assert read == [(starts[5], starts[7] - starts[5]), (starts[9], starts[10] - starts[9])]


def test_a_screen_that_was_compressed_later_is_refused(converted, tmp_path):
    ad.read_h5ad(converted).write_h5ad(tmp_path / "small.h5ad", compression="gzip")
    with pytest.raises(InputError, match=r"small\.h5ad: X/data .* rerun convert_to_gears"):
        StoredRows(tmp_path / "small.h5ad", "X")


def test_a_screen_whose_bytes_were_shuffled_later_is_refused(converted):
    with h5py.File(converted, "r+") as file:
        values = file["X/data"][:]
        del file["X/data"]
        file["X"].create_dataset("data", data=values, chunks=(37,), shuffle=True)
    with pytest.raises(InputError, match=r"X/data was written anew .* rerun convert_to_gears"):
        StoredRows(converted, "X")


def test_an_opened_screen_keeps_its_rows_when_another_takes_its_name(converted, counts, tmp_path):
    screen = open_screen(converted)
    before = screen.counts(slice(None)).toarray()
    counts[::-1].copy().write_h5ad(tmp_path / "raw.h5ad")
    convert(tmp_path / "raw.h5ad", "tiny", Conversion(), converted)
    np.testing.assert_array_equal(screen.counts(slice(None)).toarray(), before)


def test_an_opened_screen_is_not_handed_to_another_process(converted):
    with pytest.raises(TypeError, match="open in this process only"):
        pickle.dumps(open_screen(converted))


def test_a_screen_that_lost_its_end_is_refused(converted):
    stored = StoredRows(converted, "X")
    with converted.open("r+b") as file:
        file.truncate(stored.data.offsets.max())
    with pytest.raises(InputError, match="is truncated; rerun convert_to_gears"):
        stored[:]


@pytest.mark.parametrize(
    ("key", "change", "found"),
    [
        ("indptr", lambda x: x[:-1], "120 numbers"),
        ("indptr", lambda x: x[::-1], "to 0,"),
        ("indices", lambda x: x[:-5], "beside"),
        ("data", lambda x: x[:-5], "values"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path, key, change, found):
    matrix = sp.random(120, 30, 0.3, "csr", random_state=0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        ad.io.write_elem(file, "X", matrix)
        values = change(file[f"X/{key}"][:])
        del file[f"X/{key}"]
        file[f"X/{key}"] = values
        with pytest.raises(InputError, match=rf"a\.h5: X is no CSR matrix of 120 × 30.*{found}"):
            CsrFile(file["X"])
