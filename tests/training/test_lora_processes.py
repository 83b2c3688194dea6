"""Low-rank changes learned by one process, by two, and by two that divide the weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

PROJECT = Path(__file__).parents[2]
PROGRAM = """
import sys, torch, numpy as np
sys.path[:0] = ["{project}", "{project}/workflow"]
from pathlib import Path
from functools import partial
from tests.training.test_loop import settings
from vcpipe.config.adapting import Lora
from vcpipe.config.finetune import Perturbation
from vcpipe.config.model import Transformer
from vcpipe.data.loading.position_reader import PositionReader
from vcpipe.models.lora import add_lora, freeze
from vcpipe.models.scgpt import SHARED, TransformerGenerator
from vcpipe.objectives.perturbation import perturbation
from vcpipe.training.distributed import joined
from vcpipe.training.loop import train


class Cells:
    def __init__(self, number):
        drawn = np.random.default_rng(number).random((2, number, 6)).astype(np.float32)
        self.control, self.perturbed = drawn
        self.reader = PositionReader(number, {{}})

    def batch(self, buffer, places, draw):
        rows = buffer.positions[places]
        flags = np.eye(6, dtype=np.int64)[rows % 6]
        return dict(genes=np.arange(6), flags=flags, control=self.control[rows],
                    perturbed=self.perturbed[rows])


def fit(folder, strategy):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    size = Transformer(hidden_dim=8, num_layers=2, num_heads=2, ffn_dim=8, dropout=0.0)
    model = TransformerGenerator(size, 8, 7)
    freeze(model, list(SHARED))
    add_lora(model, Lora(rank=2, alpha=8))
    config = settings(batch_size=8 // process.world, max_epochs=3, strategy=strategy)
    loss = partial(perturbation, config=Perturbation())
    given = model, loss, Cells(24), Cells(8), config, process, folder
    weights, _ = train(*given, lambda text: None)
    torch.save(weights, folder / f"rank{{process.rank}}.pt")


with joined(0) as process:
    for strategy in ("ddp", "fsdp")[: process.world]:
        fit(Path(sys.argv[1]) / f"{{strategy}}{{process.world}}", strategy)
"""


@pytest.mark.slow
def test_processes_learn_the_same_changes_together_as_one_alone(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(project=PROJECT))
    for world in (1, 2):
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
        done = subprocess.run(
            [sys.executable, *(launcher if world > 1 else []), program, tmp_path],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
    expected = torch.load(tmp_path / "ddp1/rank0.pt", weights_only=True)
    assert any(expected[name].any() for name in expected if name.endswith("lora.up"))
    for name in ("ddp2/rank0", "ddp2/rank1", "fsdp2/rank0", "fsdp2/rank1"):
        found = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        for key, its in expected.items():
            np.testing.assert_allclose(found[key], its, rtol=0, atol=1e-5)
