"""The state to resume from: copied between two updates, written while training goes on.

A folder holds last.pt, previous.pt, which serves where last.pt is damaged, and top/ with the
weights of the best updates. Each file carries a digest of its content.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
import xxhash
from torch import Tensor

from vcpipe.errors import InputError
from vcpipe.files import writing
from vcpipe.training.distributed import whole
from vcpipe.training.progress import Progress, write_metrics

LAST, PREVIOUS, TOP = "last.pt", "previous.pt", "top"


class Damaged(Exception):
    """A checkpoint that is cut off, or whose content is not what was written."""


class Checkpoints:
    """Those of one run; `update` is the one that the newest whole checkpoint holds."""

    def __init__(self, folder: Path, say: Callable[[str], None], writes: bool):
        self.folder, self.say, self.writes = folder, say, writes
        self.update = 0
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.job: Future[None] | None = None
        self.copy: dict = {}
        # Names in top/ that last.pt and previous.pt speak of.
        self.kept: list[set[str]] = []

    def save(self, state: dict, keep_weights: bool) -> None:
        """Copy a state and begin to write it; with its weights in top/, where these are kept.

        All processes call it, because each may hold a part of the weights; the first one writes.
        """
        self.wait()
        self.copy = copied(state, self.copy, self.writes)
        if self.writes:
            copies = _Moment()
            self.job = self.pool.submit(self._write, self.copy, keep_weights, copies)

    def wait(self) -> None:
        """Until nothing is being written."""
        if self.job is not None:
            job, self.job = self.job, None
            job.result()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self.pool.shutdown()

    def read(self) -> dict | None:
        """The newest state that is whole; None where there is none at all."""
        reasons = []
        for path in (self.folder / LAST, self.folder / PREVIOUS):
            if not path.exists():
                continue
            try:
                state = read_whole(path)
            except Damaged as error:
                reasons.append(str(error))
                continue
            for reason in reasons:
                self.say(f"{reason}; the one before it serves")
            self.update = state["progress"]["update"]
            self.kept = [_names(state)]
            return state
        if reasons:
            raise InputError(
                f"{' and '.join(reasons)}. Bring back a copy, or remove {self.folder} to train "
                "from the beginning."
            )
        return None

    def best_weights(self, top: list[list[float]]) -> dict[str, Tensor]:
        """Weights of the lowest monitored value whose file could be written."""
        for value, epoch, update in top:
            path = self.folder / TOP / _name(epoch, update)
            if path.exists():
                return read_whole(path)["model"]
            self.say(f"the weights of update {update}, {value:.4f}, are not on disk")
        raise InputError(
            f"{self.folder / TOP} holds no weights of the updates that were best; make room on "
            f"that disk, remove {self.folder} and train again."
        )

    def _write(self, state: dict, keep_weights: bool, copies: "_Moment") -> None:
        copies.wait()
        progress = state["progress"]
        update = progress["update"]
        try:
            if keep_weights:
                # Where the number of processes changed, numbers of updates may have come before.
                epoch = max(epoch for _, epoch, its in progress["top"] if its == update)
                name = _name(epoch, update)
                write_whole(self.folder / TOP / name, {"model": state["model"]})
            self._replace(state)
            write_metrics(self.folder / "metrics.csv", Progress(**progress))
        except InputError as error:
            # Only a full disk is one; what was there before is untouched.
            self.say(
                f"checkpoint of update {update} is not kept: {error} Training goes on; the last "
                f"checkpoint is update {self.update}."
            )
            return
        self.update = update
        self.kept = [*self.kept[-1:], _names(state)]
        for path in (self.folder / TOP).glob("*.pt"):
            if not any(path.name in names for names in self.kept):
                path.unlink()

    def _replace(self, state: dict) -> None:
        last, made = self.folder / LAST, self.folder / "next.pt"
        write_whole(made, state)
        # Killed between the two, a run goes on from previous.pt.
        if last.exists():
            last.replace(self.folder / PREVIOUS)
        made.replace(last)


def _name(epoch: int, update: int) -> str:
    return f"epoch_{epoch}_update_{update}.pt"


def _names(state: dict) -> set[str]:
    return {_name(*its) for _, *its in state["progress"]["top"]}


class _Moment:
    """The point at which a GPU has done what it was told so far."""

    def __init__(self):
        self.event = torch.cuda.Event() if torch.cuda.is_initialized() else None
        if self.event is not None:
            self.event.record()

    def wait(self) -> None:
        if self.event is not None:
            self.event.synchronize()


def copied(value, former, keep: bool = True):
    """A copy in the host's memory, in the place of a former one of the same shape where it fits.

    Copies of a GPU's tensors are only begun; they lie in memory that it writes to by itself. With
    `keep` false, parts that other processes need are handed over, and nothing is copied.
    """
    if isinstance(value, Tensor):
        value = whole(value.detach())
        if not keep:
            return None
        fits = isinstance(former, Tensor) and former.shape == value.shape
        if not fits or former.dtype != value.dtype:
            former = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        return former.copy_(value, non_blocking=True)
    if isinstance(value, dict):
        known = former if isinstance(former, dict) else {}
        return {name: copied(its, known.get(name), keep) for name, its in value.items()}
    return value


def leaves(value, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, its in value.items():
            yield from leaves(its, f"{path}.{name}")
    else:
        yield path, value


def content_digest(content: dict) -> str:
    found = xxhash.xxh3_128()
    for path, value in leaves(content):
        found.update(path.encode())
        if isinstance(value, Tensor):
            found.update(f"{value.dtype}{tuple(value.shape)}".encode())
            found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def write_whole(path: Path, content: dict) -> None:
    """Write with a digest, under a temporary name that becomes the real one."""
    # Through a handle of Python's, whose errors say that a disk is full.
    with writing(path) as partial, partial.open("wb") as handle:
        torch.save(content | {"digest": content_digest(content)}, handle)


def read_whole(path: Path) -> dict:
    """Tensors and plain values only: nothing in the file is executed."""
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        digest = content.pop("digest")
    except Exception as error:
        # What is cut off or overwritten fails in many ways.
        reason = str(error).splitlines()[0]
        raise Damaged(f"{path} cannot be read ({reason})") from error
    if content_digest(content) != digest:
        raise Damaged(f"{path} is not what was written: its digest is another")
    return content
