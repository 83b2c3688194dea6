import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vcpipe.training.distributed import Process
from vcpipe.training.speed import Bar, Speed, peak_of, told

ALONE = Process(0, 1, torch.device("cpu"))


def test_a_device_is_found_by_its_name_and_the_precision():
    assert peak_of("NVIDIA H100 80GB HBM3", "bf16-mixed") == 989e12
    assert peak_of("NVIDIA H100 PCIe", "bf16-mixed") == 756e12
    assert peak_of("NVIDIA A100-SXM4-80GB", "32") == 19.5e12
    assert peak_of("another", "32") is None


def test_mfu_is_three_forward_passes_by_what_the_device_could_do():
    loader = SimpleNamespace(waited=1.0, cells=100)
    speed = Speed(loader, ALONE, "32")
    assert "mfu" not in speed.since()
    speed.peak = 1e6
    model = nn.Linear(8, 4)
    speed.count_operations(lambda: model(torch.ones(2, 8)))
    assert speed.operations == 3 * 2 * (2 * 8 * 4)
    speed.mark()
    speed.steps, loader.cells, loader.waited = 5, 300, 1.5
    found = speed.since()
    assert found["mfu"] * found["seconds"] == pytest.approx(5 * 384 / 1e6)
    assert found["cells_per_second"] * found["seconds"] == pytest.approx(200)
    assert found["waited"] == 0.5


def test_speed_is_told_with_what_is_known():
    known = {"cells_per_second": 1234.5, "waited": 1, "seconds": 10}
    assert told(known) == "1,234 cells/s, 10% waiting for them"
    assert told(known | {"mfu": 0.41, "memory_gb": 12.3}).endswith(", MFU 41%, 12.3 GB")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_bar_is_shown_on_a_terminal_only(monkeypatch, capsys, is_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    asked = []
    bar = Bar(10, shown=True)
    bar.show(5, lambda: asked.append(5) or "loss 0.5")
    bar.close()
    assert asked == [5] * is_terminal
    assert ("5/10" in capsys.readouterr().err) == is_terminal
