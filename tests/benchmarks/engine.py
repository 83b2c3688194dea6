"""What the training loop adds to a bare one, and how long a checkpoint holds it up.

python -m tests.benchmarks.engine overhead: CPU seconds per step of a tiny model, through our loop
and through the shortest one that trains the same, on batches of the same loader, in turns
python -m tests.benchmarks.engine checkpoint: seconds until training goes on, and until all is on
disk, of a model whose state takes 150 MB
"""

import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.benchmarks.measuring import Row, row, run
from vcpipe.config.loading import Loading
from vcpipe.config.training import EarlyStopping, Optimizer, Scheduler, Training
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Share
from vcpipe.data.loading.position_reader import PositionReader
from vcpipe.training.checkpointing import Checkpoints, write_whole
from vcpipe.training.distributed import Process
from vcpipe.training.loop import Settings, train
from vcpipe.training.progress import Progress

PROGRAM = (sys.executable, "-m", "tests.benchmarks.engine")
ASKED_US, ASKED_SHARE = 100, 0.3
STEPS, BATCH, SEED = 1000, 16, 3
ALONE = Process(0, 1, torch.device("cpu"))


def engine(folder: Path) -> list[Row]:
    """engine_overhead, checkpoint_blocking."""
    overhead = run(*PROGRAM, "overhead")
    steps = {name: 1e6 * float(np.median(its)) for name, its in overhead.items()}
    print(f"CPU µs per step: ours {steps['ours']:.0f}, bare {steps['bare']:.0f}", flush=True)
    added = [
        1e6 * (ours - bare) for ours, bare in zip(overhead["ours"], overhead["bare"], strict=True)
    ]
    asked = [float(ASKED_US)] * len(added)
    saved = run(*PROGRAM, "checkpoint", folder)
    blocking, whole = ([1e3 * its for its in saved[name]] for name in ("blocking", "whole"))
    return [
        row("engine_overhead", added, asked, "CPU µs per step", f"asked: {ASKED_US}", floor=1),
        row(
            *("checkpoint_blocking", blocking, whole, "ms", "ours, written at once"),
            floor=1 / ASKED_SHARE,
        ),
    ]


class Points:
    def __init__(self, num_cells: int):
        self.x = np.random.default_rng(SEED).normal(size=(num_cells, 64)).astype(np.float32)
        self.reader = PositionReader(num_cells, {})

    def batch(self, buffer, places, draw) -> dict[str, np.ndarray]:
        return {"x": self.x[buffer.positions[places]]}


def squared(model: nn.Module, batch: dict[str, Tensor], generator=None) -> tuple[Tensor, int]:
    return model(batch["x"]).square().sum(), len(batch["x"])


def tiny() -> nn.Module:
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 1))


def ours(cells: Points) -> float:
    training = Training(
        **{"batch_size": BATCH, "max_epochs": 1, "seed": SEED},
        early_stopping=EarlyStopping(monitor="train_loss"),
        checkpoint_every_n_steps=10 * STEPS,
    )
    settings = Settings(Optimizer(), Scheduler(name="constant"), training)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train(tiny(), squared, cells, None, settings, ALONE, Path(folder), lambda text: None)
    return time.process_time() - began


def bare(cells: Points) -> float:
    began = time.process_time()
    model = tiny()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    loader = Loader(cells, Loading(), Share(0, 1, BATCH, Loading().fetch_factor), SEED)
    with closing(loader.steps(epoch=0)) as steps:
        for batch in steps:
            optimizer.zero_grad(set_to_none=True)
            loss, count = squared(model, {"x": torch.from_numpy(batch["x"])})
            (loss / count).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return time.process_time() - began


def overhead(repeats: int = 5) -> dict[str, list[float]]:
    """Of a long run less a short one, so that what is done once does not count."""
    long, short = Points(STEPS * BATCH), Points(STEPS // 10 * BATCH)
    found: dict[str, list[float]] = {"ours": [], "bare": []}
    for function in (ours, bare):
        function(short)
    for _ in range(repeats):
        for name, function in (("ours", ours), ("bare", bare)):
            found[name].append((function(long) - function(short)) / (0.9 * STEPS))
    return found


def checkpoint(folder: Path, repeats: int = 7) -> dict[str, list[float]]:
    model = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(12)))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    model(torch.ones(1, 1024)).sum().backward()
    optimizer.step()
    found: dict[str, list[float]] = {"blocking": [], "whole": []}
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        closing(Checkpoints(Path(name), print, writes=True)) as checkpoints,
    ):
        for number in range(repeats + 1):
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "progress": vars(Progress(update=number)),
            }
            began = time.perf_counter()
            checkpoints.save(state, keep_weights=False)
            blocking = time.perf_counter() - began
            checkpoints.wait()
            began = time.perf_counter()
            write_whole(Path(name) / "at_once.pt", state)
            # The first one makes room for the copies of all others.
            if number:
                found["blocking"].append(blocking)
                found["whole"].append(time.perf_counter() - began)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, *folders = sys.argv[1:]
    print(json.dumps(overhead() if what == "overhead" else checkpoint(Path(folders[0]))))
