"""How far a run has come, and its rows of metrics."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from vcpipe.files import writing

COLUMNS = ("step", "epoch", "lr", "grad_norm", "train_loss", "val_loss")


@dataclass
class Progress:
    epoch: int = 0
    # Batches of this epoch that are done: (processes, batch_size, fetch_factor, batches), one of
    # these for each number of processes that took part.
    segments: list[list[int]] = field(default_factory=list)
    update: int = 0
    best: float = float("inf")
    best_epoch: int = -1
    # The lowest values so far: (value, epoch, update), each with weights on disk.
    top: list[list[float]] = field(default_factory=list)
    epoch_loss: list[float] = field(default_factory=lambda: [0.0, 0.0])  # sum, count
    rows: list[list[float | None]] = field(default_factory=list)  # of metrics.csv
    waited: float = field(default=0.0, compare=False)  # seconds, for cells

    @property
    def step(self) -> int:
        return sum(batches for *_, batches in self.segments)

    def judge(self, value: float, save_top_k: int) -> bool:
        """Note a monitored value; returns whether the weights of this update are to be kept."""
        if value < self.best:
            self.best, self.best_epoch = value, self.epoch
        entry = [value, self.epoch, self.update]
        others = [its for its in self.top if its[1:] != entry[1:]]
        self.top = sorted([*others, entry])[:save_top_k]
        return entry in self.top


def write_metrics(path: Path, rows: list[list[float | None]]) -> None:
    with writing(path) as partial, partial.open("w", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)
