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
    # Of the newest row; what came later stands last, and older rows are shorter.
    columns: list[str] = field(default_factory=lambda: [*COLUMNS])
    waited: float = field(default=0.0, compare=False)  # seconds, for cells

    def note(self, row: dict[str, float | None]) -> None:
        """Add a row of metrics, and columns that no row had so far."""
        self.columns += [name for name in row if name not in self.columns]
        self.rows.append([row.get(column) for column in self.columns])

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


def write_metrics(path: Path, progress: Progress) -> None:
    columns = progress.columns
    with writing(path) as partial, partial.open("w", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(columns)
        table.writerows([*row, *[None] * (len(columns) - len(row))] for row in progress.rows)
