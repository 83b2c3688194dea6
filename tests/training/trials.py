"""Trainings that are stopped at some update, one after the other: torchrun starts this program.

    torchrun ... tests/training/trials.py FOLDER PLAN, whose plan says as JSON what is tried

Each trial but those at the end runs in a fork, so that many of them pay for imports once. All parts
of scGPT's objective are learned, of which some compare the cells of all processes.
"""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

PROJECT = Path(__file__).parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "workflow")]

from tests.training.test_loop import settings  # noqa: E402
from vcpipe.config.model import Transformer  # noqa: E402
from vcpipe.config.objectives.masked_values import MaskedValues  # noqa: E402
from vcpipe.data.loading.position_reader import PositionReader  # noqa: E402
from vcpipe.errors import Interrupted  # noqa: E402
from vcpipe.models.scgpt import MaskedValueModel  # noqa: E402
from vcpipe.objectives.masked_values import masked_values  # noqa: E402
from vcpipe.training.distributed import Process, gathering, joined  # noqa: E402
from vcpipe.training.loop import train  # noqa: E402

# n cells, T tokens

NUM_CELLS, BATCH_SIZE, EPOCHS = 37, 8, 4
NUM_TOKENS, PAD = 32, 31
OBJECTIVE = MaskedValues(
    attention="generative",
    gen_from_update=7,
    **{f"{part}_weight": 1.0 for part in ("mvc", "gen", "ecs", "dar", "cls", "cce")},
)
STOPPED = 75
# A job that Slurm ends within our margin, so that a process stops after its first update.
NEARLY_OVER = "SLURM_JOB_END_TIME"


class Tokens:
    """Cells of 5 to 9 tokens, the last two of which are hidden; some have no cell type."""

    def __init__(self, num_cells: int):
        generator = np.random.default_rng(0)
        shape = num_cells, 9
        self.length_n = generator.integers(5, 10, num_cells)
        self.genes_nT = generator.integers(0, 30, shape).astype(np.int32)
        self.values_nT = generator.random(shape, dtype=np.float32)
        self.genes_nT[:, 0] = 30
        self.batch_n = generator.integers(0, 2, num_cells)
        self.type_n = generator.integers(-1, 3, num_cells)
        self.reader = PositionReader(num_cells, {})

    def batch(self, buffer, places, draw) -> dict[str, np.ndarray]:
        cells = buffer.positions[places]
        lengths, token_T = self.length_n[cells], np.arange(9)
        real_nT = token_T < lengths[:, None]
        hidden_nT = real_nT & (token_T >= lengths[:, None] - 2)
        packed = np.flatnonzero(real_nT)
        values_nT = self.values_nT[cells]
        return {
            "genes": np.where(real_nT, self.genes_nT[cells], PAD).astype(np.int32),
            "values": np.where(hidden_nT, -1, np.where(real_nT, values_nT, -2)).astype(np.float32),
            "places": packed,
            "starts": np.append(0, lengths.cumsum()).astype(np.int32),
            "scored": np.flatnonzero(hidden_nT.ravel()[packed]),
            "known": (lengths - 2).astype(np.int32),
            "target_values": values_nT[hidden_nT],
            "batch": self.batch_n[cells],
            "cell_type": self.type_n[cells],
        }


def learn(
    process: Process, folder: Path, dropout: float, stop_at: int = -1, act=lambda: None
) -> None:
    """Go on from what lies in a folder, to the end or to where this process acts."""

    def loss(model, batch, generator):
        if model.training and batch["update"] == stop_at:
            act()
        return masked_values(model, batch, OBJECTIVE, generator, gathering(process))

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    size = Transformer(hidden_dim=8, num_layers=1, num_heads=2, ffn_dim=8, dropout=dropout)
    model = MaskedValueModel(size, NUM_TOKENS, PAD, OBJECTIVE, num_batches=2, num_cell_types=3)
    config = settings(
        batch_size=BATCH_SIZE // process.world, max_epochs=EPOCHS, checkpoint_every_n_steps=1
    )
    cells = Tokens(NUM_CELLS), Tokens(9)
    weights, progress = train(model, loss, *cells, config, process, folder, lambda text: None)
    if process.first:
        torch.save({"weights": weights, "rows": progress.rows}, folder / "result.pt")


def tell_torchrun() -> None:
    """As a cluster does, which knows of no other process; go on when torchrun has handed it on."""
    received, handler = [], signal.getsignal(signal.SIGTERM)

    def receive(*arguments) -> None:
        handler(*arguments)
        received.append(True)

    signal.signal(signal.SIGTERM, receive)
    os.kill(os.getppid(), signal.SIGTERM)
    while not received:
        time.sleep(0.01)


def die(folder: Path) -> None:
    (folder / "died").write_text(str(time.time()))
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder: Path, trial: dict) -> None:
    """One trial in this process, of which nothing but an exit code comes back."""
    # A process that waits for one that is gone, and would never end.
    signal.alarm(200)
    how, world = trial["how"], trial["world"]
    os.environ |= {
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        # That of torchrun still holds the addresses of processes of former trials.
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "MASTER_PORT": str(trial["port"]),
    }
    if how == NEARLY_OVER:
        os.environ[NEARLY_OVER] = str(int(time.time()) + 60)
    # The processes of a group stop together; the signal reaches one.
    mine = how in signal.Signals.__members__ and int(os.environ["RANK"]) == trial["rank"]
    act = partial(os.kill, os.getpid(), signal.Signals[how]) if mine else lambda: None
    with joined(0) as process:
        learn(process, folder / trial["folder"], trial["dropout"], trial.get("update", -1), act)


def exit_code(folder: Path, trial: dict) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        attempt(folder, trial)
        os._exit(0)
    except Interrupted:
        os._exit(STOPPED)
    except BaseException as error:
        print(f"{trial}: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)


def main(folder: Path, plan: dict) -> None:
    rank = int(os.environ["RANK"])
    codes = [exit_code(folder, its) if rank < its["world"] else None for its in plan["trials"]]
    (folder / f"codes-{rank}.json").write_text(json.dumps(codes))
    with joined(0) as process:
        if "told" in plan:
            its = plan["told"]
            act = tell_torchrun if process.first else lambda: None
            learn(process, folder / its["folder"], its["dropout"], its["update"], act)
        if "finished" in plan:
            learn(process, folder / plan["finished"]["folder"], plan["finished"]["dropout"])
        if "dies" in plan:
            its = plan["dies"]
            act = partial(die, folder) if rank == its["rank"] else lambda: None
            learn(process, folder / its["folder"], its["dropout"], its["update"], act)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
