import numpy as np
import pytest
import torch

from vcpipe.config.finetune import Perturbation
from vcpipe.data.grouped_values import Groups, groups_of
from vcpipe.data.order import BatchDraw
from vcpipe.data.perturbation_batches import (
    PerturbationBatches,
    ValuesElsewhere,
    ValuesInMemory,
    ValuesOnDisk,
    known_genes,
)
from vcpipe.data.vocabulary import build_vocabulary
from vcpipe.training import resident_values
from vcpipe.training.distributed import Process, to_device
from vcpipe.training.resident_values import ResidentValues, place_of_values

ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture
def known(screen):
    return known_genes(screen, build_vocabulary(screen.genes[3:26], ["<pad>", "<cls>", "<eoc>"]))


@pytest.fixture
def batches(screen, known) -> PerturbationBatches:
    paired = np.where(screen.condition == "ctrl", np.arange(len(screen.cells)), 5)
    config = Perturbation(max_seq_len=12)
    return PerturbationBatches(screen, known, np.arange(30, 120), paired, config, np.arange(20))


def test_batches_gathered_on_a_device_are_those_read_from_disk(screen, known, batches):
    rows = batches.rows()
    resident = ResidentValues(
        groups_of(screen, known.columns, rows), len(known.columns), 10_000, ALONE.device
    )
    for step in range(5):
        places, draw = np.arange(step, 80, 3), BatchDraw(0, 1, step)
        buffer = batches.reader.read(np.arange(len(batches.cells)))
        batches.values = ValuesOnDisk(screen, known)
        expected = to_device(batches.batch(buffer, places, draw), ALONE)
        batches.values = ValuesElsewhere(rows)
        told = batches.batch(buffer, places, draw)
        assert "control" not in told
        filled = resident.fill(to_device(told, ALONE))
        assert filled.keys() == expected.keys()
        assert expected["control"].count_nonzero() > 50
        for name, tensor in expected.items():
            assert torch.equal(filled[name], tensor)


def test_genes_beyond_half_of_what_two_bytes_can_number_are_found():
    """torch takes these two bytes for negative numbers."""
    genes = np.array([0, 32_767, 32_768, 65_535], dtype=np.uint16)
    part = Groups(
        starts=np.array([0, 4]),
        genes=genes,
        first_value=np.array([0, 2]),
        values=np.array([1.5, 2.5], dtype=np.float32),
        ends=np.array([3, 4], dtype=np.int32),
    )
    resident = ResidentValues(iter([part]), 2**16, 4, ALONE.device)
    chosen_T = torch.tensor([65_535, 1, 32_768, 0])
    values_RT = resident.of(torch.zeros(1, dtype=torch.int64), chosen_T)
    assert values_RT.tolist() == [[2.5, 0.0, 1.5, 1.5]]


def test_a_cell_without_genes_beside_a_long_one_is_empty():
    part = Groups(
        starts=np.array([0, 3, 3, 4]),
        genes=np.array([0, 2, 1, 2], dtype=np.uint16),
        first_value=np.array([0, 2, 2, 3]),
        values=np.array([1, 2, 3], dtype=np.float32),
        ends=np.array([2, 3, 1], dtype=np.int32),
    )
    resident = ResidentValues(iter([part]), 3, 4, ALONE.device)
    values_RT = resident.of(torch.tensor([2, 1, 0, 2]), torch.tensor([0, 1, 2]))
    assert values_RT.tolist() == [[0, 0, 3], [0, 0, 0], [1, 2, 1], [0, 0, 3]]


def test_a_cpu_reads_from_disk_unless_it_is_told_to_hold_all(screen, known, batches):
    rows = batches.rows()
    for data_on, kind in (
        ("auto", ValuesOnDisk),
        ("host", ValuesOnDisk),
        ("device", ValuesInMemory),
    ):
        values, resident, said = place_of_values(screen, known, rows, data_on, ALONE)
        assert isinstance(values, kind)
        assert resident is None
    assert f"values of {len(rows)} cells lie in the memory of cpu, 0.00 GB" == said


def test_a_gpu_holds_what_fits_in_half_of_its_free_memory(screen, known, batches, monkeypatch):
    rows = batches.rows()
    monkeypatch.setattr(resident_values, "is_queued", lambda process: True)
    for free, data_on, kind in (
        (10**9, "auto", ValuesElsewhere),
        (10**9, "host", ValuesOnDisk),
        (10**4, "auto", ValuesOnDisk),
        (10**4, "device", ValuesElsewhere),
    ):
        monkeypatch.setattr(resident_values, "free_memory", lambda process, free=free: free)
        values, resident, _ = place_of_values(screen, known, rows, data_on, ALONE)
        assert isinstance(values, kind)
        assert (resident is not None) == (kind is ValuesElsewhere)
