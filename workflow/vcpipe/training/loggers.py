"""Where rows of metrics go beside metrics.csv, which every run writes."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from vcpipe.config.training import Training
from vcpipe.errors import InputError

Row = Mapping[str, float | None]


class Csv:
    """metrics.csv is written with every checkpoint: nothing else is to be done."""

    def __init__(self, folder: Path, config: Training, update: int):
        del folder, config, update

    def log(self, row: Row) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoard(Csv):
    def __init__(self, folder: Path, config: Training, update: int):
        package("tensorboard", config.logger)
        made = package("torch.utils.tensorboard", config.logger)
        # What a killed run wrote after its last checkpoint is hidden: it comes again.
        self.writer = made.SummaryWriter(str(folder / "tensorboard"), purge_step=update + 1)

    def log(self, row: Row) -> None:
        for name, value in values(row).items():
            self.writer.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        self.writer.close()


class Wandb(Csv):
    def __init__(self, folder: Path, config: Training, update: int):
        made = package("wandb", config.logger)
        self.run = made.init(
            project=config.wandb_project,
            mode=config.wandb_mode,
            dir=str(folder),
            # Named after all that shapes the run, as the folder is: a resumed run is the same one.
            id=folder.name,
            resume="allow",
        )

    def log(self, row: Row) -> None:
        self.run.log(values(row), step=int(row["step"]))

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, Callable[[Path, Training, int], Csv]] = {
    "csv": Csv,
    "tensorboard": TensorBoard,
    "wandb": Wandb,
}


def values(row: Row) -> dict[str, float]:
    return {name: its for name, its in row.items() if its is not None and name != "step"}


def package(name: str, logger: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"training.logger is {logger}, which is not installed ({error}). "
            f"Run pip install {logger} in this environment, or set training.logger to csv."
        ) from error
