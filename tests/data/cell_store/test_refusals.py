"""Input that no store is made of, and writes that end before their time."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.cell_store.memory_source import (
    content,
    source_of,
    stored,
    to_store,
    vocabularies_of,
)
from vcpipe.config.fitting import Filters
from vcpipe.data.cell_store import buckets, places, writing
from vcpipe.errors import InputError

KNOWN = vocabularies_of(rna=90)
PROJECT = Path(__file__).parents[3]


def test_cells_that_stand_twice_are_named(counts, tmp_path):
    sources = [
        to_store(source_of("plate", {"rna": counts}), KNOWN),
        # For training and for tests: in sets of their own, but the same cell.
        to_store(source_of("plate", {"rna": counts[:3]}, start=198), KNOWN, [2, 2, 255]),
    ]
    with pytest.raises(InputError, match="2 cells stand more than once: 'cell00198' of plate"):
        stored(tmp_path / "store", sources, KNOWN)
    assert list(tmp_path.iterdir()) == []


def test_names_may_repeat_in_other_datasets(counts, tmp_path):
    sources = [source_of("plate", {"rna": counts}), source_of("well", {"rna": counts})]
    store = stored(tmp_path / "store", sources, KNOWN)
    assert len(store) == 400
    assert len(np.unique(store.rows(np.arange(400)).keys)) == 400


def test_no_cell_left_is_an_error_and_leaves_nothing(counts, tmp_path):
    for filters, sets in ((Filters(min_genes=91), None), (Filters(), np.full(200, 255))):
        source = to_store(source_of("plate", {"rna": counts}), KNOWN, sets, filters)
        with pytest.raises(InputError, match="no cell is left of 200; expected"):
            stored(tmp_path / "store", [source], KNOWN)
    assert list(tmp_path.iterdir()) == []


def test_cells_left_out_are_counted_by_reason(tmp_path):
    rna = np.zeros((6, 20), dtype=int)
    rna[0, :5] = 1
    rna[1, :2] = 9
    rna[2, :3] = 1
    rna[3, :4] = 3
    rna[5, 15:] = 100  # unknown genes do not help
    source = to_store(
        source_of("plate", {"rna": rna}),
        vocabularies_of(rna=15),
        [0, 0, 0, 0, 255, 1],
        Filters(min_genes=3, min_counts=5),
    )
    store = stored(tmp_path / "store", [source], vocabularies_of(rna=15))
    (found,) = store.manifest["statistics"]["sources"]
    assert found["left_out"] == {
        "held_out": 1,
        "nothing_kept": 0,
        "min_genes": 2,
        "min_counts": 1,
        "min_peaks": 0,
    }
    assert found["kept"] == len(store) == 2
    assert {name for _, name in content(store)} == {"cell00000", "cell00003"}
    about = store.manifest["statistics"]["modalities"]["rna"]
    assert about["counts"][:3] == [5, 0, 4]
    assert about["largest_count"] == 3
    assert store.length_histogram("rna").tolist() == [0, 0, 0, 0, 1, 1]


def test_cells_of_which_fitting_kept_nothing_are_left_out(tmp_path):
    matrices = {"rna": np.eye(5, 4, dtype=int), "atac": np.zeros((5, 3), dtype=int)}
    matrices["atac"][1, 0] = 1
    known = vocabularies_of(rna=4, atac=3)
    source = to_store(source_of("plate", matrices), known)
    kept = {"rna": np.array([-1, -1, 2, 3], dtype=np.int32), "atac": source.feature_ids["atac"]}
    source = replace(source, feature_ids=kept, filters=Filters(min_genes=1))
    store = stored(tmp_path / "store", [source], known, group_by=[])
    (found,) = store.manifest["statistics"]["sources"]
    assert {"nothing_kept": 1, "min_genes": 1}.items() <= found["left_out"].items()
    # Cell 1 has a peak alone.
    assert {name for _, name in content(store)} == {"cell00001", "cell00002", "cell00003"}


def test_counts_beyond_32_bits_name_cell_and_gene(counts, tmp_path):
    counts = counts.astype(np.int64)
    counts[17, 4] = 2**32
    with pytest.raises(InputError, match=r"cell 'cell00017' has more than .* gene 'rna000004'"):
        stored(tmp_path / "store", [source_of("plate", {"rna": counts})], KNOWN)


def test_a_group_that_no_cell_has_a_label_of_is_refused(counts, tmp_path):
    with pytest.raises(InputError, match=r"group_by has line; the cells have the labels kind"):
        stored(
            tmp_path / "store",
            [source_of("plate", {"rna": counts}, {"kind": ["a"] * 200})],
            KNOWN,
            group_by=["line"],
        )


@pytest.mark.parametrize(("sets", "min_genes"), [([2] * 200, 0), ([0] + [2] * 199, 3)])
def test_without_cells_for_training_there_is_no_grouped_copy(counts, tmp_path, sets, min_genes):
    counts[0] = 0
    source = source_of("plate", {"rna": counts}, {"kind": ["a", "b"] * 100})
    made = to_store(source, KNOWN, sets, Filters(min_genes=min_genes))
    store = stored(tmp_path / "store", [made], KNOWN, group_by=["kind"])
    assert len(store.sets["train"]) == len(store.grouped) == len(store.groups) == 0
    assert 150 < len(store.sets["test"]) == len(store) == len(content(store))


def test_a_dataset_of_two_species_is_refused(counts, tmp_path):
    known = vocabularies_of(("human", "mouse"), rna=90)
    sources = [
        source_of("plate", {"rna": counts}),
        source_of("plate", {"rna": counts}, start=500, species="mouse"),
    ]
    with pytest.raises(InputError, match="cells of human and mouse; expected one species"):
        stored(tmp_path / "store", sources, known)


def test_the_order_is_uniform(tmp_path):
    sources = [
        source_of(f"plate{number}", {"rna": np.ones((500, 3))}, start=number) for number in range(4)
    ]
    store = stored(tmp_path / "store", sources, KNOWN, block_size=100, seed=3)
    found = np.array(store.labels(columns=["dataset"])["dataset"].to_pylist()).reshape(20, 100)
    observed = np.array([[(row == f"plate{n}").sum() for n in range(4)] for row in found])
    chi_square = ((observed - 25) ** 2 / 25).sum()
    # 57 degrees of freedom: 99.9 % of uniform orders lie below 98.
    assert 25 < chi_square < 98
    names = store.labels(columns=["cell"])["cell"].to_pylist()
    other = stored(tmp_path / "other", sources, KNOWN, seed=4).labels(columns=["cell"])
    assert names != other["cell"].to_pylist()


def test_a_bucket_that_does_not_fit_in_memory_is_read_in_parts(counts, tmp_path, monkeypatch):
    source = source_of("plate", {"rna": counts}, {"kind": ["a", "b"] * 100})
    expected = stored(tmp_path / "whole", [source], KNOWN, block_size=9, group_by=["kind"])
    made = []

    class Small(buckets.Buckets):
        """A buffer of 100 entries; cells have nine each."""

        def __init__(self, folder, stretches, record, num_modalities, memory, pool):
            stretches = places.Stretches(stretches.sizes, 150)
            super().__init__(folder, stretches, record, num_modalities, 800, pool)

        def flush(self):
            made.append(self.num_waiting)
            super().flush()

        def parts(self):
            for part in super().parts():
                assert sum(cells.lengths.sum() for cells in part.cells) <= 130
                made.append(-len(part.chosen))
                yield part

    monkeypatch.setattr(writing, "Buckets", Small)
    found = stored(tmp_path / "parts", [source], KNOWN, block_size=9, group_by=["kind"])
    assert sum(number > 0 for number in made) > 10
    assert sum(number < 0 for number in made) > 10
    for path in expected.path.iterdir():
        if path.name != "manifest.json":
            assert path.read_bytes() == (found.path / path.name).read_bytes(), path.name


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from tests.data.cell_store import memory_source as m
source = m.source_of("plate", {"rna": np.ones((300, 90))})
chunks = source.chunks
def slow(wanted=None):
    for number, chunk in enumerate(chunks(wanted)):
        yield chunk
        if number == 20:
            print("now", flush=True)
            time.sleep(60)
source.chunks = slow
m.stored(Path(sys.argv[1]), [source], m.vocabularies_of(rna=90))
"""


def test_a_killed_write_leaves_nothing_that_a_rerun_trips_over(tmp_path):
    path = tmp_path / "store"
    environment = os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'workflow'}"}
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, env=environment
    )
    assert child.stdout.readline() == b"now\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1  # what the killed process has left
    store = stored(path, [source_of("plate", {"rna": np.ones((300, 90))})], vocabularies_of(rna=90))
    assert len(store) == 300
    assert list(tmp_path.iterdir()) == [path]
    assert not any("bucket" in file.name for file in path.iterdir())
