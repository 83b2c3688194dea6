"""What every kind of run shares: a state folder, a log, and a model folder at the end."""

import fcntl
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO

from torch import Tensor, nn

from vcpipe.config.model import Transformer
from vcpipe.config.section import Section
from vcpipe.data.corpus_names import Names
from vcpipe.data.loading.reader import Batches
from vcpipe.data.preprocessing_record import PreprocessingRecord
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError, listed
from vcpipe.files import digest, read_json, write_json
from vcpipe.provenance import code_version
from vcpipe.training.checkpointing import LAST
from vcpipe.training.checkpoints import write_folder
from vcpipe.training.distributed import Process
from vcpipe.training.forward import Loss, Scores
from vcpipe.training.loop import Settings, train
from vcpipe.training.progress import Progress, write_metrics

# In a run's folder: what shaped it, and a file that is there once nobody will go on with it.
SHAPE, OVER = "shape.json", "over"


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
    """1,000 weights, 200 of which learn."""
    weights = list(model.parameters())
    number = sum(weight.numel() for weight in weights)
    learn = sum(weight.numel() for weight in weights if weight.requires_grad)
    return f"{number:,} weights" + ("" if learn == number else f", {learn:,} of which learn")


def refuse_changed(state: Path, own: Path, shape: dict) -> None:
    """Refuse to leave an unfinished run of other settings or other data behind without a word.

    Code that changed begins anew.
    """
    for path in sorted(state.glob(f"*/{SHAPE}")):
        folder = path.parent
        if folder == own or (folder / OVER).exists() or not (folder / LAST).exists():
            continue
        before, now = leaves(read_json(path, "what shaped a run")), leaves(shape)
        changed = [
            f"{key} was {before.get(key, 'not there')[:60]} and is {now.get(key, 'not there')[:60]}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
        if changed:
            raise InputError(
                f"{folder} holds the state of a run that is not finished: {listed(changed)}. To go "
                f"on with that run, set them back; to begin anew, remove {folder}."
            )


def leaves(content, path: str = "") -> dict[str, str]:
    """Every value by its dotted key, as JSON: {"config.optimizer.lr": "0.0001"}."""
    if not isinstance(content, dict):
        return {path: json.dumps(content, sort_keys=True)}
    found: dict[str, str] = {}
    for key, value in content.items():
        found |= leaves(value, f"{path}.{key}" if path else str(key))
    return found


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
        shape = {"config": settings, "data": data}
        refuse_changed(state, self.folder, shape)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "run.log"
        self.process = process
        if process.first:
            self.lock = locked(self.folder / "lock")
            write_json(self.folder / SHAPE, shape)

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
        scores: Scores | None = None,
        exported: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
    ) -> Progress:
        """`exported` makes what is written of the weights that were trained."""
        try:
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
                scores,
            )
        except FloatingPointError:
            # Other settings are asked for: this run is not gone on with.
            if self.process.first:
                (self.folder / OVER).touch()
            raise
        if self.process.first:
            early = self.config.training.early_stopping
            best = -progress.best if early.is_score else progress.best
            about = {
                **self.data,
                "objective": self.config.objective,
                "config": self.config.model_dump(mode="json"),
                "config_digest": digest(self.config.model_dump(mode="json")),
                "code_version": code_version(),
                "best_epoch": progress.best_epoch,
                "best_score" if early.is_score else "best_loss": best,
                "updates": progress.update,
            }
            self.say(f"best epoch {progress.best_epoch + 1}: {best:.4f}; wrote {out}")
            write_folder(
                out, exported(weights), size, vocabulary, args, about, self.log, record, names
            )
            write_metrics(metrics, progress)
            # Unfinished ones of older code, too: nothing goes on with them.
            for shape in self.folder.parent.glob(f"*/{SHAPE}"):
                (shape.parent / OVER).touch()
        return progress
