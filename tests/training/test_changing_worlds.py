"""Training in several processes that is stopped, and goes on with more or fewer processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

PROJECT = Path(__file__).parents[2]
NUM_CELLS, EPOCHS = 118, 2
PROGRAM = """
import json, os, signal, sys, torch
import torch.distributed as dist
sys.path[:0] = ["{project}", "{project}/workflow"]
from pathlib import Path
from tests.data.loading.cells_in_a_row import CellsInARow
from tests.training.ranks import run_in_ranks
from tests.training.test_loop import Pairs, network, settings, squared_error
from vcpipe.config.loading import Loading
from vcpipe.errors import Interrupted
from vcpipe.training.distributed import joined
from vcpipe.training.loop import train

seen, calls = [], [0]


class Cells(Pairs):
    def batch(self, buffer, places, draw):
        batch = super().batch(buffer, places, draw)
        return batch | dict(cells=buffer.positions[places], epoch=draw.epoch + 0 * places)


def learn(folder, batch_size, block_size, stop_at):
    def loss(model, batch, generator):
        if model.training:
            calls[0] += 1
            seen.append([int(batch["epoch"][0]), batch["cells"].tolist()])
            if calls[0] == stop_at and process.rank == process.world - 1:
                os.kill(os.getpid(), signal.SIGTERM)
        return squared_error(model, batch, generator)

    with joined(0) as process:
        cells, val = Cells({num_cells}, noise=0.0), Cells(9, noise=0.0)
        cells.reader = CellsInARow({num_cells}, block_size)
        its = settings(batch_size=batch_size, max_epochs={epochs})
        its = type(its)(its.optimizer, its.scheduler, its.training, Loading(fetch_factor=3))
        try:
            weights, progress = train(
                network(0.0), loss, cells, val, its, process, folder, lambda text: None, threads=2
            )
            if process.first:
                torch.save(weights, folder / "weights.pt")
        except Interrupted:
            pass
        name = f"seen-{{len(list(folder.glob('seen-*')))}}-{{process.rank}}.json"
        if process.world > 1:
            dist.barrier()
        (folder / name).write_text(json.dumps(seen))


for folder, world, *numbers in json.loads(sys.argv[1]):
    Path(folder).mkdir(exist_ok=True)
    run_in_ranks(world, learn, Path(folder), *numbers)
"""


def run(*trainings: tuple[str, int, int, int, int]) -> None:
    """Folder, processes, cells of a batch of each, cells of a block, update after which it stops.

    One after the other; the last process is asked to stop, and -1 lets all of them come to the end.
    """
    program = PROGRAM.format(project=PROJECT, num_cells=NUM_CELLS, epochs=EPOCHS)
    command = [sys.executable, "-c", program, json.dumps(trainings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def seen_by_epoch(folder: Path) -> list[list[int]]:
    """The cells of each epoch, by whichever processes."""
    seen = [[] for _ in range(EPOCHS)]
    for path in folder.glob("seen-*.json"):
        for epoch, cells in json.loads(path.read_text()):
            seen[epoch] += cells
    return seen


@pytest.mark.slow
def test_every_cell_is_seen_once_whoever_goes_on(tmp_path):
    """Blocks of 8 cells, batches of 5 for each process."""
    run(*((str(tmp_path), world, 5, 8, stop_at) for world, stop_at in ((2, 7), (1, 4), (3, -1))))
    assert (tmp_path / "weights.pt").exists()
    for cells in seen_by_epoch(tmp_path):
        assert sorted(cells) == list(range(NUM_CELLS))


@pytest.mark.slow
def test_processes_that_share_the_same_batches_learn_the_same_however_many_they_are(tmp_path):
    """Single cells in random order, 12 in a batch of all processes together."""
    shared = str(tmp_path / "shared")
    run(
        (str(tmp_path / "alone"), 1, 12, 1, -1),
        *((shared, world, 12 // world, 1, stop) for world, stop in ((3, 4), (1, 3), (2, -1))),
    )
    expected, found = (
        torch.load(tmp_path / name / "weights.pt", weights_only=True)
        for name in ("alone", "shared")
    )
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
