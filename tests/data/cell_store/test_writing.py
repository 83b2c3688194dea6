"""What must hold of every store, tried on random small ones."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.cell_store.memory_source import (
    MemorySource,
    content,
    names,
    source_of,
    stored,
    to_store,
    vocabularies_of,
)
from vcpipe.data.cell_store import labels
from vcpipe.files import read_json

# The same examples on every run, and no verdict on the speed of the machine.
few = settings(max_examples=20, deadline=None, derandomize=True)
EDGES = (1, 2, 255, 256, 65534, 65535, 65536, 2**31, 2**32 - 1)


@dataclass(frozen=True)
class Corpus:
    sources: list[MemorySource]
    sets: list[np.ndarray]
    vocabularies: dict
    settings: dict
    expected: dict  # by modality: by dataset and name: counts by id


@st.composite
def corpora(draw) -> Corpus:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Ids and gaps between them beyond 65,535 are only met among very many peaks.
    sizes = {"rna": 60} | draw(st.sampled_from([{}, {"atac": 70_000}]))
    vocabularies = vocabularies_of(**sizes)
    sources, sets = [], []
    expected: dict[str, dict] = {modality: {} for modality in sizes}
    for number in range(draw(st.integers(1, 3))):
        num_cells = draw(st.integers(1, 40))
        kept = {
            modality: np.sort(generator.choice(size, min(size, 30), replace=False))
            for modality, size in sizes.items()
        }
        matrices = {}
        for modality, ids in kept.items():
            shape = (num_cells, len(ids))
            matrices[modality] = generator.choice(EDGES, shape) * (generator.random(shape) < 0.3)
        features = {
            modality: np.append(names(modality, sizes[modality])[ids[:-2]], ["x", "y"])
            for modality, ids in kept.items()
        }
        known_labels = {
            "kind": generator.choice(["a", "b", None], num_cells),
            "batch": generator.choice(["1", "2"], num_cells),
        }
        source = source_of(f"set{number}", matrices, known_labels, features=features)
        order = {name: generator.permutation(len(ids)) for name, ids in kept.items()}
        sources.append(source.reordered(np.arange(num_cells), order, draw(st.integers(1, 50))))
        sets.append(generator.choice([0, 0, 1, 2, 255], num_cells).astype(np.uint8))
        sets[-1][0] = 0
        for modality, ids in kept.items():
            for cell in np.flatnonzero(sets[-1] != 255):
                row = matrices[modality][cell][:-2]
                held = {int(ids[c]): int(row[c]) for c in np.flatnonzero(row)}
                expected[modality][source.dataset, source.cells[cell]] = held
    chosen = {
        "block_size": draw(st.sampled_from([1, 3, 256])),
        "compression": draw(st.sampled_from(["zstd", "lz4"])),
        "group_by": draw(st.sampled_from([[], ["kind", "batch"]])),
        "memory_mb": 1,
        "seed": draw(st.integers(0, 2)),
    }
    return Corpus(sources, sets, vocabularies, chosen, expected)


def write(folder: Path, corpus: Corpus, threads: int = 1):
    pairs = zip(corpus.sources, corpus.sets, strict=True)
    sources = [to_store(source, corpus.vocabularies, sets) for source, sets in pairs]
    return stored(folder, sources, corpus.vocabularies, threads, **corpus.settings)


@few
@given(corpora())
def test_counts_come_back_exactly(corpus):
    with tempfile.TemporaryDirectory() as folder:
        store = write(Path(folder) / "store", corpus)
        for modality, expected in corpus.expected.items():
            assert content(store, modality) == expected
            blocks = [store.block(number, modality) for number in range(store.num_blocks)]
            every = store.rows(np.arange(store.runs[-1].stop), modality)
            for field in ("ids", "counts", "totals", "keys"):
                joined = np.concatenate([getattr(block, field) for block in blocks])
                assert np.array_equal(joined, getattr(every, field))
        assert store.verify() > 0


@few
@given(corpora(), st.integers(0, 2**32 - 1))
def test_the_order_of_the_input_changes_no_byte(corpus, seed):
    generator = np.random.default_rng(seed)
    sources, sets = [], []
    for number in generator.permutation(len(corpus.sources)):
        source = corpus.sources[number]
        cells = generator.permutation(len(source))
        columns = {
            name: generator.permutation(its.shape[1]) for name, its in source.matrices.items()
        }
        sources.append(source.reordered(cells, columns, int(generator.integers(1, 50))))
        sets.append(corpus.sets[number][cells])
    other = Corpus(sources, sets, corpus.vocabularies, corpus.settings, corpus.expected)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "one", corpus)
        write(Path(folder) / "other", other, threads=4)
        paths = [Path(folder) / name / "manifest.json" for name in ("one", "other")]
        manifests = [read_json(path, "a manifest") for path in paths]
        assert manifests[0]["data_digest"] == manifests[1]["data_digest"]
        assert manifests[0]["statistics"] == manifests[1]["statistics"]
        written = [path for path in (Path(folder) / "one").iterdir() if path.suffix != ".json"]
        for path in written:
            assert path.read_bytes() == (Path(folder) / "other" / path.name).read_bytes(), path
        assert any(path.suffix == ".bin" for path in written)


def test_labels_of_many_batches_stay_with_their_cells(counts, tmp_path, monkeypatch):
    known = vocabularies_of(rna=90)
    kinds = np.array([f"kind{number % 7}" for number in range(200)])
    source = source_of("plate", {"rna": counts}, {"kind": kinds})
    monkeypatch.setattr(labels, "LABELS_PER_BATCH", 64)
    store = stored(tmp_path / "store", [source], known, block_size=11, memory_mb=1)
    assert store.label_file.reader.num_record_batches == 4
    positions = np.random.default_rng(0).integers(0, 200, 300)
    found = store.labels(positions, ["cell", "key", "kind"]).to_pydict()
    assert found["key"] == store.rows(positions).keys.tolist()
    numbers = [int(name.removeprefix("cell")) for name in found["cell"]]
    assert found["kind"] == kinds[numbers].tolist()
    assert store.labels().column("key").to_pylist() == store.rows(np.arange(200)).keys.tolist()


def test_blocks_go_on_in_a_new_shard_where_one_is_full(tmp_path, generator):
    counts = generator.integers(0, 60_000, (3000, 300))
    known = vocabularies_of(rna=300)
    source = source_of("plate", {"rna": counts})
    store = stored(tmp_path / "store", [source], known, shard_mb=1, threads=2)
    shards = store.manifest["modalities"]["rna"]["shards"]
    assert [shard["name"] for shard in shards] == ["rna_0000.bin", "rna_0001.bin"]
    assert all(shard["bytes"] <= 2**20 for shard in shards)
    rows = store.rows(np.arange(3000))
    names = store.labels(columns=["cell"])["cell"].to_pylist()
    for name, start, stop in zip(names, rows.starts[:-1], rows.starts[1:], strict=True):
        expected = counts[int(name.removeprefix("cell"))]
        assert np.array_equal(rows.ids[start:stop], np.flatnonzero(expected))
        assert np.array_equal(rows.counts[start:stop], expected[expected > 0])


def test_cells_without_a_modality_have_none_of_its_features(counts, tmp_path):
    known = vocabularies_of(rna=90, atac=40)
    sources = [
        source_of("paired", {"rna": counts[:50], "atac": counts[:50, :40]}),
        source_of("alone", {"rna": counts[50:]}),
        source_of("open", {"atac": counts[:20, :40]}),
    ]
    store = stored(tmp_path / "store", sources, known)
    rna, atac = (content(store, modality) for modality in ("rna", "atac"))
    assert all(len(rna[key]) == 0 for key in rna if key[0] == "open")
    assert all(len(atac[key]) == 0 for key in atac if key[0] == "alone")
    # Not measured, which is not the same as not detected.
    assert [len(store.measured["atac"][name]) for name in ("alone", "open", "paired")] == [
        0,
        40,
        40,
    ]
    assert [len(store.measured["rna"][name]) for name in ("alone", "open", "paired")] == [90, 0, 90]
