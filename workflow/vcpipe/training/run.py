"""What every kind of run shares: a state folder, a log, and a model folder at the end."""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from torch import nn

from vcpipe.config.model import Transformer
from vcpipe.config.section import Section
from vcpipe.data.corpus_names import Names
from vcpipe.data.loading.reader import Batches
from vcpipe.data.preprocessing_record import PreprocessingRecord
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError
from vcpipe.files import digest
from vcpipe.provenance import code_version
from vcpipe.training.checkpoints import write_folder
from vcpipe.training.distributed import Process
from vcpipe.training.forward import Loss
from vcpipe.training.loop import Settings, train
from vcpipe.training.progress import Progress, write_metrics


def locked(path: Path) -> IO[str]:
    """Hold a file as long as this process lives: two writers would spoil each other's state."""
    handle = path.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.seek(0)
        raise InputError(
            f"{path.parent} is in use by another process ({handle.read().strip()}), which trains "
            "the same run. Wait for it, or end it; this run then goes on where it was."
        ) from error
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    handle.flush()
    return handle


def num_weights(model: nn.Module) -> str:
    return f"{sum(weight.numel() for weight in model.parameters()):,}"


class Run:
    """A run whose state lies in a folder named after all that shapes it."""

    def __init__(
        self,
        config: Section,
        data: dict,
        code: str,
        state: Path,
        process: Process,
    ):
        self.config, self.data = config, data
        settings = config.model_dump(mode="json")
        self.folder = state / digest({"config": settings, "data": data, "code": code})
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "run.log"
        self.process = process
        if process.first:
            self.lock = locked(self.folder / "lock")

    def say(self, text: str) -> None:
        """Every process trains, the first one speaks."""
        if not self.process.first:
            return
        print(text, flush=True)
        with self.log.open("a") as handle:
            handle.write(text + "\n")

    def train_and_write(
        self,
        model: nn.Module,
        loss: Loss,
        cells: Batches,
        held_out: Batches | None,
        size: Transformer,
        vocabulary: Vocabulary,
        args: dict,
        out: Path,
        metrics: Path,
        record: PreprocessingRecord | None = None,
        names: Names | None = None,
        threads: int = 1,
    ) -> Progress:
        weights, progress = train(
            model,
            loss,
            cells,
            held_out,
            Settings(
                self.config.optimizer,
                self.config.scheduler,
                self.config.training,
                self.config.loading,
            ),
            self.process,
            self.folder,
            self.say,
            threads,
        )
        if self.process.first:
            about = {
                **self.data,
                "objective": self.config.objective,
                "config": self.config.model_dump(mode="json"),
                "config_digest": digest(self.config.model_dump(mode="json")),
                "code_version": code_version(),
                "best_epoch": progress.best_epoch,
                "best_loss": progress.best,
                "updates": progress.update,
            }
            self.say(f"best epoch {progress.best_epoch + 1}: {progress.best:.4f}; wrote {out}")
            write_folder(out, weights, size, vocabulary, args, about, self.log, record, names)
            write_metrics(metrics, progress.rows)
        return progress
