import json
import os
import threading

import numpy as np
import pytest

from tests.data.cell_store.memory_source import source_of, stored, to_store, vocabularies_of
from vcpipe.data.loading import store_reader
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.errors import InputError


@pytest.fixture
def counts(generator):
    return generator.poisson(0.2, (200, 90)) * generator.integers(1, 9, (200, 90))


def make(path, counts, **settings):
    labels = {
        "drug": [None if i % 40 == 39 else f"d{i % 3}" for i in range(len(counts))],
        "line": [f"l{i // 100}" for i in range(len(counts))],
    }
    source = source_of("one", {"rna": counts}, labels)
    return stored(path, [source], vocabularies_of(rna=counts.shape[1]), block_size=16, **settings)


def same(rows, other) -> bool:
    names = ("starts", "ids", "counts", "totals", "keys")
    return all(np.array_equal(getattr(rows, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("share", [1.0, 0.05])
def test_cells_are_those_of_the_store_in_any_order_and_any_number(
    tmp_path, counts, generator, compression, share
):
    store = make(tmp_path / "store", counts, compression=compression)
    reader = StoreReader(store)
    positions = generator.choice(200, int(200 * share))
    positions = np.append(positions, positions[:3])
    buffer = reader.read(positions)
    assert np.array_equal(buffer.positions, positions)
    for places in (np.arange(len(positions)), np.array([2, 0, 0]), np.zeros(0, dtype=np.int64)):
        assert same(buffer.rows(places), store.rows(positions[places]))


def test_counts_and_ids_beyond_16_bits_come_back(tmp_path):
    counts = np.zeros((40, 70_000), dtype=np.int64)
    counts[3, [0, 65_535, 69_999]] = [65_535, 65_536, 70_000]
    counts[:, 1] = 3
    store = stored(
        tmp_path / "store", [source_of("one", {"rna": counts})], vocabularies_of(rna=70_000)
    )
    positions = np.arange(40)
    assert same(StoreReader(store).read(positions).rows(positions), store.rows(positions))


def test_a_range_counts_from_its_beginning(tmp_path, counts):
    store = make(tmp_path / "store", counts)
    reader = StoreReader(store, range(50, 120))
    assert len(reader) == 70
    assert same(reader.read(np.array([0, 69])).rows(np.arange(2)), store.rows([50, 119]))


def test_several_threads_fill_and_ask(tmp_path, counts, generator):
    store = make(tmp_path / "store", counts)
    reader, found = StoreReader(store), {}
    positions = generator.permutation(200)

    def read(number: int) -> None:
        buffer, tasks = reader.begin(positions)
        threads = [threading.Thread(target=task) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found[number] = buffer.rows(np.arange(200))

    readers = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join()
    assert len(found) == 4
    assert all(same(its, store.rows(positions)) for its in found.values())


def test_labels_are_numbered_by_combination(tmp_path, counts, monkeypatch):
    store = make(tmp_path / "store", counts)
    reader = StoreReader(store, range(10, 190))
    table = store.labels(np.arange(10, 190)).to_pandas()
    for largest in (2**22, 0):
        monkeypatch.setattr(store_reader, "LARGEST_TABLE", largest)
        found = reader.label_codes(["line", "drug"])
        codes = found.codes(0, 180)
        for code, line, drug in zip(codes.tolist(), table["line"], table["drug"], strict=True):
            assert (found.words[code] if code >= 0 else None) == (
                (line, drug) if isinstance(drug, str) else None
            )
        assert np.array_equal(found.codes(100, 120), codes[100:120])
        assert (codes < 0).sum() == table["drug"].isna().sum() > 0


def test_an_unknown_label_is_refused_with_those_there_are(tmp_path, counts):
    reader = StoreReader(make(tmp_path / "store", counts))
    with pytest.raises(InputError, match="has no label dose; it has dataset, drug, line"):
        reader.label_codes(["dose"])


def test_a_store_that_changes_while_it_is_read_is_noticed(tmp_path, counts):
    store = make(tmp_path / "store", counts)
    reader = StoreReader(store)
    reader.read(np.arange(4))
    os.utime(store.path / "manifest.json", (0, 0))
    reader.read(np.arange(4))  # touched, not changed
    manifest = json.loads((store.path / "manifest.json").read_text())
    manifest["manifest_digest"] = "another"
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"changed while it was read: its manifest_digest was "):
        reader.read(np.arange(4))
    (store.path / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"manifest.json is gone: the store was removed"):
        reader.read(np.arange(4))


def test_a_shard_that_was_cut_off_is_named_with_its_sizes(tmp_path, counts):
    store = make(tmp_path / "store", counts)
    reader, shard = StoreReader(store), store.path / "rna_0000.bin"
    size = shard.stat().st_size
    os.truncate(shard, size - 10)
    with pytest.raises(
        InputError, match=rf"rna_0000.bin: block 12 .* is cut off: .* the file has {size - 10}"
    ):
        reader.read(np.arange(200))


def test_a_damaged_byte_is_named_with_its_block(tmp_path, counts):
    store = make(tmp_path / "store", counts)
    shard = store.path / "rna_0000.bin"
    data = bytearray(shard.read_bytes())
    data[30] ^= 255
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"rna_0000.bin: block 0 .* is not as it was written"):
        StoreReader(store).read(np.arange(200))


def test_cells_of_test_are_never_read(tmp_path, counts):
    source = source_of("one", {"rna": counts})
    sets = np.where(np.arange(200) % 4 < 3, 0, 2)
    vocabularies = vocabularies_of(rna=90)
    store = stored(
        tmp_path / "store", [to_store(source, vocabularies, sets)], vocabularies, block_size=16
    )
    reader = StoreReader(store)
    its = reader.store_positions(np.arange(len(reader)))
    assert store.labels(its, ["set"])["set"].to_pylist() == ["train"] * 150
    assert all(store.block_positions(int(block)).stop <= 150 for block in reader.read(its).blocks)


def test_labels_with_more_combinations_than_can_be_numbered_are_refused(
    tmp_path, counts, monkeypatch
):
    reader = StoreReader(make(tmp_path / "store", counts))
    monkeypatch.setattr(store_reader, "MOST_COMBINATIONS", 5)
    with pytest.raises(InputError, match="line, drug have 6 possible combinations; expected at"):
        reader.label_codes(["line", "drug"])


def test_memory_of_a_buffer_is_used_again(tmp_path, counts):
    reader = StoreReader(make(tmp_path / "store", counts))
    buffer = reader.read(np.arange(200))
    first = buffer.held.ids.ctypes.data
    rows = buffer.rows(np.arange(200))
    del buffer
    again = reader.read(np.arange(199, -1, -1))
    assert again.held.ids.ctypes.data == first
    assert same(rows, reader.store.rows(np.arange(200)))
