"""Plates are found by number, labels are numbered, batches hold every gene of a cell."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from vcpipe.config.cell_store import CellStore
from vcpipe.config.loader import TASKS
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.dense_batches import DenseBatches
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.plates import (
    EvenlySpaced,
    encode,
    find_plates,
    label_table,
    learn_classes,
    open_plates,
    origin_of,
    read_label_maps,
    read_labels,
)
from vcpipe.data.plates_to_store import write_plates_as_store
from vcpipe.errors import InputError

DRUGS = {"DMSO_TF": ("unclear", "unclear"), "a": ("broad 1", "fine 1"), "b": ("broad 1", "fine 2")}


def write_plate(path, drugs, *, lines=None, genes=("g1", "g2", "g3"), plate="plate1"):
    counts = np.arange(1, len(drugs) * len(genes) + 1).reshape(len(drugs), -1) % 4
    known = [DRUGS.get(drug, ("new", "new")) for drug in drugs]
    obs = pd.DataFrame(
        {
            "plate": pd.Categorical([plate] * len(drugs)),
            "cell_line": pd.Categorical(lines or ["x", "y"] * len(drugs), ["x", "y"])[: len(drugs)],
            "drug": pd.Categorical(drugs),
            "moa-broad": pd.Categorical([broad for broad, _ in known]),
            "moa-fine": pd.Categorical([fine for _, fine in known]),
        },
        index=[f"{plate}_{number}" for number in range(len(drugs))],
    )
    matrix = sp.csr_matrix(counts.astype(np.float32))
    ad.AnnData(matrix, obs, pd.DataFrame(index=list(genes))).write_h5ad(path)
    return path


@pytest.fixture
def folder(tmp_path):
    write_plate(tmp_path / "plate1_filt_Vevo.h5ad", ["DMSO_TF", "a", "a", "b"])
    write_plate(tmp_path / "plate2.h5ad", ["DMSO_TF", "b", "c"], plate="plate2")
    write_plate(tmp_path / "plate14_filt_Vevo.h5ad", ["a", "b"], plate="plate14")
    return tmp_path


def test_plates_are_found_by_number_in_the_order_that_was_asked_for(folder):
    found = find_plates(folder, [14, 1])
    assert [path.name for path in found.values()] == [
        "plate14_filt_Vevo.h5ad",
        "plate1_filt_Vevo.h5ad",
    ]


def test_a_missing_plate_is_named_beside_what_is_there(folder):
    with pytest.raises(InputError, match=r"no file of plate 4; there is plate14_filt_Vevo\.h5ad"):
        find_plates(folder, [1, 4])
    with pytest.raises(InputError, match=r"is no folder; .* of the plates 1, 13"):
        find_plates(folder / "nowhere", [13, 1])


def test_two_files_of_a_plate_are_refused(folder):
    write_plate(folder / "plate1_again.h5ad", ["a"])
    with pytest.raises(InputError, match=r"2 files of plate 1: plate1_again\.h5ad, plate1_filt"):
        find_plates(folder, [1])


def test_plates_of_other_genes_are_refused(folder):
    path = write_plate(folder / "plate3.h5ad", ["a"], genes=("g1", "g3", "g2"))
    with pytest.raises(InputError, match="has other genes than"):
        open_plates([*find_plates(folder, [1]).values(), path])


def labels_of(folder, numbers, maps=None, max_cells=None):
    reader = open_plates(list(find_plates(folder, numbers).values()), max_cells)
    return reader, read_labels(reader, maps or read_label_maps(None), "train_plates")


def test_classes_are_those_of_the_training_cells_alone(folder):
    classes = learn_classes(labels_of(folder, [1])[1], read_label_maps(None))
    assert classes["drug"] == ["DMSO_TF", "a", "b"]
    assert classes["cell_line"] == ["x", "y"]
    first = learn_classes(labels_of(folder, [1], max_cells=2)[1], read_label_maps(None))
    assert first["drug"] == ["DMSO_TF", "a"]


def test_a_label_that_no_training_cell_has_gets_a_number_of_its_own(folder):
    classes = learn_classes(labels_of(folder, [1])[1], read_label_maps(None))
    codes, unknown = encode(labels_of(folder, [2])[1], classes)
    assert unknown == {
        "cell_line": [],
        "drug": ["c"],
        "moa-broad": ["new"],
        "moa-fine": ["new"],
    }
    drug = TASKS.index("drug")
    assert codes[:, drug].tolist() == [0, 2, 3]


def test_cells_without_a_label_are_counted_by_plate(folder):
    write_plate(folder / "plate5.h5ad", ["a", None, None], plate="plate5")
    reader = open_plates(list(find_plates(folder, [1, 5]).values()))
    with pytest.raises(InputError, match=r"test: 2 cells have no drug \(2 of plate5\)"):
        read_labels(reader, read_label_maps(None), "test")


def test_mechanisms_come_from_files_where_these_are_given(folder):
    labels = folder / "labels"
    labels.mkdir()
    drugs = ["DMSO_TF", "a", "b", "c"]
    (labels / "moa-fine.json").write_text(json.dumps(dict(zip(drugs, "wxyz", strict=True))))
    (labels / "moa-broad.json").write_text(json.dumps(dict(zip(drugs, "vvuu", strict=True))))
    (labels / "cell_line.json").write_text(json.dumps(["y", "x", "z"]))
    maps = read_label_maps(labels)
    _, found = labels_of(folder, [1], maps)
    classes = learn_classes(found, maps)
    assert classes["moa-fine"] == ["w", "x", "y"]
    assert classes["moa-broad"] == ["u", "v"]
    assert classes["cell_line"] == ["x", "y", "z"]
    codes, _ = encode(found, classes)
    assert codes[:, TASKS.index("moa-fine")].tolist() == [0, 1, 1, 2]
    assert codes[:, TASKS.index("moa-broad")].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("task", ["moa-broad", "moa-fine"])
def test_one_mechanism_without_the_other_is_refused(folder, task):
    labels = folder / "labels"
    labels.mkdir()
    (labels / f"{task}.json").write_text("{}")
    (other,) = {"moa-broad", "moa-fine"} - {task}
    with pytest.raises(InputError, match=rf"label_dir: .* has no {other}\.json; .*label_dir: null"):
        read_label_maps(labels)


def test_cells_from_all_over_the_plates_are_read_by_their_own_positions(folder):
    reader = open_plates(list(find_plates(folder, [1, 2]).values()))
    some = EvenlySpaced(reader, 3)
    assert some.cells.tolist() == [0, 2, 4]
    assert len(EvenlySpaced(reader, None)) == len(EvenlySpaced(reader, 99)) == len(reader)
    buffer = some.read(np.array([2, 0, 2]))
    assert buffer.positions.tolist() == [2, 0, 2]
    found, expected = buffer.rows(np.array([1, 2])), reader.read(np.array([0, 4]))
    assert np.array_equal(found.counts, expected.rows(np.arange(2)).counts)
    assert np.array_equal(found.keys, expected.rows(np.arange(2)).keys)
    labels = some.label_codes(["drug"])
    assert [labels.words[code] for code in labels.codes(1, 3)] == [("a",), ("DMSO_TF",)]


def test_a_drug_that_the_file_lacks_is_named(folder):
    labels = folder / "labels"
    labels.mkdir()
    (labels / "moa-fine.json").write_text(json.dumps(dict.fromkeys(DRUGS, "x")))
    (labels / "moa-broad.json").write_text('{"a": "x"}')
    with pytest.raises(InputError, match=r"moa-broad.json has no label of the drugs DMSO_TF, b"):
        labels_of(folder, [1], read_label_maps(labels))
    (labels / "moa-broad.json").write_text('["a"]')
    with pytest.raises(InputError, match=r"holds no \{drug: label\}"):
        read_label_maps(labels)


def test_pickles_are_refused_with_the_reason(folder):
    labels = folder / "mappings"
    labels.mkdir()
    (labels / "moa_broad.pkl").write_bytes(b"")
    with pytest.raises(InputError, match="reading a pickle runs whatever code it holds"):
        read_label_maps(labels)


def test_a_batch_holds_all_genes_and_the_classes_of_its_cells(folder):
    reader, labels = labels_of(folder, [1, 2])
    codes, _ = encode(labels, learn_classes(labels, read_label_maps(None)))
    files = [ad.read_h5ad(path) for path in find_plates(folder, [1, 2]).values()]
    expected = np.concatenate([file.X.toarray() for file in files])
    positions, places = np.array([6, 1, 3, 1]), np.array([3, 0, 1])
    batches = DenseBatches(reader, codes, reader.num_genes)
    batch = batches.batch(reader.read(positions), places, BatchDraw(0, 0))
    assert batch["counts"].dtype == np.float32
    assert np.array_equal(batch["counts"], expected[positions[places]])
    assert batch["labels"].dtype == np.int64
    assert np.array_equal(batch["labels"], codes[positions[places]])
    scaled = DenseBatches(reader, codes, reader.num_genes, "log1p")
    values = scaled.batch(reader.read(positions), places, BatchDraw(0, 0))["counts"]
    its = expected[positions[places]]
    assert np.allclose(values, np.log1p(its / its.sum(axis=1, keepdims=True) * 1e4), rtol=1e-5)


def test_the_store_holds_the_same_cells_with_their_labels(folder):
    plates = find_plates(folder, [1, 2])
    columns = ["plate", *TASKS]
    manifest = write_plates_as_store(folder / "store", plates, columns, 5, CellStore())
    assert manifest["num_cells"] == 5
    assert manifest["about"] == {
        "plates": {"1": "plate1_filt_Vevo.h5ad", "2": "plate2.h5ad"},
        **origin_of(list(plates.values()), 5),
    }
    reader, labels = labels_of(folder, [1, 2], max_cells=5)
    stored = StoreReader(open_store(folder / "store"))

    def cells(its, found):
        codes, _ = encode(found, classes)
        batches = DenseBatches(its, codes, 3)
        batch = batches.batch(its.read(np.arange(5)), np.arange(5), BatchDraw(0, 0))
        return sorted(np.hstack([batch["counts"], batch["labels"]]).tolist())

    classes = learn_classes(labels, read_label_maps(None))
    its = read_labels(stored, read_label_maps(None), "store")
    assert cells(stored, its) == cells(reader, labels)


def test_a_table_of_labels_has_a_row_for_each_cell(folder):
    reader, _ = labels_of(folder, [1, 2])
    table = label_table(reader, ["plate", "drug"])
    assert table["drug"].tolist() == ["DMSO_TF", "a", "a", "b", "DMSO_TF", "b", "c"]
    assert table["plate"].tolist() == ["plate1"] * 4 + ["plate2"] * 3
