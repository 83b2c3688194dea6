import json
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.data.cell_store.memory_source import (
    content,
    source_of,
    stored,
    to_store,
    vocabularies_of,
)
from vcpipe.data.cell_keys import cell_keys
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.cell_store.unpacked import open_unpacked, unpack
from vcpipe.errors import InputError

KNOWN = vocabularies_of(rna=90)


@pytest.fixture
def store(counts, tmp_path, generator):
    """120 cells for training, 50 and 30 kept away, in blocks of 16, with groups."""
    labels = {
        "kind": generator.choice(["a", "b", None], 200),
        "batch": generator.choice(["1", "2", "3"], 200),
    }
    sets = generator.permutation(np.repeat([0, 1, 2], [120, 50, 30]))
    source = to_store(source_of("plate", {"rna": counts}, labels), KNOWN, sets)
    return stored(tmp_path / "store", [source], KNOWN, block_size=16, group_by=["kind"])


def test_each_set_has_blocks_of_its_own(store):
    assert {name: len(its) for name, its in store.sets.items()} == {
        "train": 120,
        "val": 50,
        "test": 30,
    }
    found = store.labels(columns=["set"])["set"].to_pylist()
    for name, positions in store.sets.items():
        assert {found[position] for position in positions} == {name}
    for number in range(store.num_blocks):
        positions = store.block_positions(number)
        assert sum(positions[0] in run for run in [*store.sets.values(), store.grouped]) == 1
        assert len(store.block(number)) == len(positions)
        blocks, places = store.block_of(np.array(positions))
        assert set(blocks) == {number}
        assert places.tolist() == list(range(len(positions)))


def test_any_positions_come_in_the_order_asked_for(store, generator):
    every = store.rows(np.arange(200))
    for size in (0, 1, 7, 200, 500):
        positions = generator.integers(0, 200, size)
        rows = store.rows(positions)
        assert rows.keys.tolist() == every.keys[positions].tolist()
        for place, position in enumerate(positions):
            ours = slice(*rows.starts[place : place + 2])
            its = slice(*every.starts[position : position + 2])
            assert np.array_equal(rows.ids[ours], every.ids[its])
            assert np.array_equal(rows.counts[ours], every.counts[its])
    with pytest.raises(IndexError, match="of a store of 320"):
        store.rows([320])


def test_groups_hold_every_train_cell_once_more(store):
    groups = store.groups
    assert groups["dataset"].tolist() == ["plate"] * 3
    assert groups["kind"].tolist()[:2] == ["a", "b"]
    assert groups["kind"].isna().tolist() == [False, False, True]
    assert groups["start"].tolist() == [120 + 80, *groups["stop"][:-1]]
    assert groups["stop"].iloc[-1] == 320
    for group in groups.itertuples():
        found = store.labels(np.arange(group.start, group.stop), ["kind", "set"]).to_pydict()
        kinds = {kind or "none" for kind in found["kind"]}
        assert kinds == {group.kind if isinstance(group.kind, str) else "none"}
        assert set(found["set"]) == {"train"}
    train, grouped = store.sets["train"], store.grouped
    assert content(store, positions=np.array(grouped)) == content(store, positions=np.array(train))


def test_labels_come_with_their_cells_and_missing_ones_are_null(store, counts):
    table = store.labels().slice(0, 200).to_pydict()
    rows = store.rows(np.arange(200))
    assert table["key"] == rows.keys.tolist() == cell_keys("plate", table["cell"]).tolist()
    assert table["total_rna"] == rows.totals.tolist()
    place = [int(name.removeprefix("cell")) for name in table["cell"]]
    assert table["total_rna"] == counts.sum(axis=1)[place].tolist()
    assert None in table["kind"]
    assert set(table["kind"]) == {"a", "b", None}
    few = store.labels([7, 3, 199], ["kind", "cell"])
    assert few["cell"].to_pylist() == [table["cell"][position] for position in (7, 3, 199)]
    with pytest.raises(InputError, match="no label kid; it has cell, dataset"):
        store.labels([1], ["kid"])


def test_totals_hold_counts_of_unknown_features(counts, tmp_path):
    counts[:, 0] += 1
    known = vocabularies_of(rna=10)
    store = stored(tmp_path / "store", [source_of("plate", {"rna": counts})], known)
    rows = store.rows(np.arange(len(store)))
    assert rows.ids.max() < 10
    assert rows.totals.sum() == counts.sum()


def test_columns_of_one_feature_are_added_up(tmp_path):
    source = source_of("plate", {"rna": np.array([[3, 0, 4], [0, 0, 2]])})
    made = to_store(source, KNOWN)
    made.feature_ids["rna"][:] = [5, -1, 5]
    assert content(stored(tmp_path / "store", [made], KNOWN)) == {
        ("plate", "cell00000"): {5: 7},
        ("plate", "cell00001"): {5: 2},
    }


def test_measured_features_are_those_of_all_parts_of_a_dataset(tmp_path):
    sources = [
        source_of("one", {"rna": np.ones((2, 5))}),
        source_of("one", {"rna": np.ones((2, 3))}, start=2),
        source_of("two", {"rna": np.ones((2, 7))}),
    ]
    store = stored(tmp_path / "store", sources, KNOWN)
    assert {name: ids.tolist() for name, ids in store.measured["rna"].items()} == {
        "one": [0, 1, 2],
        "two": list(range(7)),
    }
    assert store.features_present["rna"]["one"].tolist() == [0, 1, 2, 3, 4]


def test_threads_read_the_same(store):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(store.block, list(range(store.num_blocks)) * 5))
    for number, rows in enumerate(found):
        assert np.array_equal(rows.counts, store.block(number % store.num_blocks).counts)


def test_another_process_can_take_a_store(store):
    assert content(pickle.loads(pickle.dumps(store))) == content(store)


def test_the_unpacked_copy_gives_the_same_rows(tmp_path, generator):
    counts = generator.choice([0, 0, 0, 1, 65534, 65535, 65536, 2**31], (60, 90))
    store = stored(tmp_path / "store", [source_of("plate", {"rna": counts})], KNOWN, block_size=7)
    unpack(store, tmp_path / "copy")
    copy = open_unpacked(tmp_path / "copy", store)
    positions = generator.integers(0, 60, 100)
    for field in ("starts", "ids", "counts", "totals", "keys"):
        ours, its = (getattr(each.rows(positions), field) for each in (copy, store))
        assert np.array_equal(ours, its), field
        assert ours.dtype == its.dtype
    other = stored(tmp_path / "other", [source_of("wells", {"rna": counts})], KNOWN)
    with pytest.raises(InputError, match=r"is no copy of .*Unpack the store again"):
        open_unpacked(tmp_path / "copy", other)


def test_a_store_of_another_format_is_refused(store):
    path = store.path / "manifest.json"
    path.write_text(json.dumps(store.manifest | {"format": 3}))
    with pytest.raises(InputError, match=r"format 3; expected 5\. Rerun prepare_cells"):
        open_store(store.path)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("num_cells", 201, "data_digest"),
        ("data_digest", "0", "data_digest"),
        ("about", {"held_out": True}, "manifest_digest"),
        ("statistics", {}, "manifest_digest"),
        ("manifest_digest", "0", "manifest_digest"),
    ],
)
def test_a_changed_manifest_is_refused(store, key, value, told):
    assert store.manifest[key] != value
    path = store.path / "manifest.json"
    path.write_text(json.dumps(store.manifest | {key: value}))
    with pytest.raises(InputError, match=f"was changed after it was written: its {told} is"):
        open_store(store.path)


@pytest.mark.parametrize("name", ["rna_0000.bin", "labels.arrow", "index_rna.npy"])
def test_a_truncated_file_is_named_with_its_sizes(store, name):
    path = store.path / name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-5])
    message = f"{path} is truncated: it has {size - 5} bytes, expected {size}."
    with pytest.raises(InputError, match=re.escape(message)):
        open_store(store.path)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        open_store(store.path)


def test_a_shard_cut_off_while_it_is_read_is_named(store):
    path = store.path / "rna_0000.bin"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"rna_0000.bin: block \d+ \(\d+ bytes .* is cut off"):
        store.block(store.num_blocks - 1)


def test_a_flipped_bit_is_noticed_by_the_block_and_by_verify(store):
    assert store.verify() > 0
    path = store.path / "rna_0000.bin"
    content = bytearray(path.read_bytes())
    where = store.index["rna"][3]
    content[where["offset"] + where["length"] // 2] ^= 4
    path.write_bytes(content)
    store = open_store(store.path)
    store.block(2)
    with pytest.raises(InputError, match=r"block 3 .* is not as it was written \(xxh3\)"):
        store.block(3)
    with pytest.raises(InputError, match=r"rna_0000\.bin are not as they were written"):
        store.verify()


def test_a_large_store_opens_without_reading_it(store, monkeypatch):
    monkeypatch.setattr("os.pread", None)
    monkeypatch.setattr("vcpipe.data.cell_store.labels.LabelFile", None)
    opened = open_store(store.path)
    assert len(opened) == 200
    assert isinstance(opened.index["rna"], np.memmap)
