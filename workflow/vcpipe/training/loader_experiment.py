"""Train one linear classifier under one way to load cells, and measure both.

The model is scDataset's, a linear one, so that loading is what differs and what is waited for.
"""

# B cells of a batch, C cells, G genes, T tasks

import os
import platform
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vcpipe.config.loader import TASKS, Backend, Loader
from vcpipe.data.cell_store.layout import names_path
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.dense_batches import DenseBatches
from vcpipe.data.loading.loader import Loader as Feed
from vcpipe.data.loading.plans import Share
from vcpipe.data.loading.reader import Buffer, LabelCodes, Reader
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.loading.zarr_reader import ZarrReader
from vcpipe.data.loading.zarr_writing import read_about
from vcpipe.data.order import BatchDraw, generator_of
from vcpipe.data.plates import (
    PLATE,
    CellLabels,
    EvenlySpaced,
    LabelMaps,
    digest_of,
    encode,
    find_plates,
    learn_classes,
    open_plates,
    origin_of,
    read_label_maps,
    read_labels,
)
from vcpipe.errors import InputError
from vcpipe.files import digest
from vcpipe.models.linear import MultiTaskLinear
from vcpipe.objectives.multitask import NO_CLASS, task_losses
from vcpipe.training.consumption import Meter, files_under, forget_files, read_once
from vcpipe.training.distributed import Process
from vcpipe.training.loop import Settings, train
from vcpipe.training.optimisers import build_optimizer

CELLS_TO_PREDICT = 4096  # that are read together
BATCHES_OF_CHANCE = 200  # drawn at random, to compare entropies with
MEMORY, JOB, GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
PACKAGES = ("torch", "scdataset", "numpy", "h5py", "zarr")


@dataclass(frozen=True)
class Cells:
    """A set of cells, and the numbers of their classes."""

    reader: Reader
    labels: CellLabels
    classes_CT: np.ndarray

    def numbers(self) -> dict[str, np.ndarray]:
        """Plates, and classes of each task, of all cells."""
        by_task = dict(zip(TASKS, self.classes_CT.T, strict=True))
        return {PLATE: self.labels.codes[PLATE], **by_task}


@dataclass(frozen=True)
class Experiment:
    """What all runs of a strategy share."""

    train: Cells
    val: Cells | None
    test: Cells
    reopen: Callable[[], Reader]  # the training cells, with nothing of them in memory
    files: Sequence[Path]  # and folders, which the training cells are in
    num_genes: int
    classes: Mapping[str, Sequence[str]]  # by task
    unknown: Mapping[str, Sequence[str]]  # labels of test cells that training has no class for
    digests: Mapping[str, str]  # of the cells


def open_experiment(
    config: Loader,
    strategy: str,
    plates: Path | None = None,
    store: Path | None = None,
    collection: Path | None = None,
) -> Experiment:
    """Find the plates, open what a strategy reads, and number the labels of all cells.

    `plates` is a folder that replaces data.h5ad_dir.
    """
    data, backend = config.data, config.backend_of(strategy)
    if plates is None and data.h5ad_dir is None:
        raise InputError("data.simulate: name the folder of simulate_plates with --plates.")
    found = find_plates(
        plates or Path(data.h5ad_dir), [*data.train_plates, *data.val_plates, *data.test_plates]
    )
    train_paths, val_paths, test_paths = (
        [found[number] for number in numbers]
        for numbers in (data.train_plates, data.val_plates, data.test_plates)
    )
    test = open_plates(test_paths, data.max_test_cells)
    files = train_files(backend, train_paths, store, collection)
    origin = origin_of(train_paths, data.max_train_cells)
    reopen = partial(open_train, backend, files, test.genes, origin)
    train, maps = reopen(), read_label_maps(data.label_dir)
    train_labels = read_labels(train, maps, "train_plates")
    classes = learn_classes(train_labels, maps)
    train_CT, _ = encode(train_labels, classes)
    test_labels = read_labels(test, maps, "test_plates")
    test_CT, unknown = encode(test_labels, classes)
    every, labels = [*train_paths, *val_paths, *test_paths], [dict(maps.of_drugs), classes]
    return Experiment(
        train=Cells(train, train_labels, train_CT),
        val=_held_out(val_paths, config, maps, classes) if val_paths else None,
        test=Cells(test, test_labels, test_CT),
        reopen=reopen,
        files=files,
        num_genes=test.num_genes,
        classes=classes,
        unknown=unknown,
        digests={
            "data_digest": digest([digest_of(every), data.max_train_cells, labels]),
            "test_digest": digest([digest_of(test_paths), data.max_test_cells, labels]),
        },
    )


def _held_out(
    paths: Sequence[Path], config: Loader, maps: LabelMaps, classes: Mapping[str, Sequence[str]]
) -> Cells:
    """Cells for val_loss; a label that training has no class for adds nothing to it."""
    reader = EvenlySpaced(open_plates(paths), config.data.max_val_cells)
    labels = read_labels(reader, maps, "val_plates")
    codes_CT, _ = encode(labels, classes)
    codes_CT[codes_CT >= np.array([len(classes[task]) for task in TASKS])] = NO_CLASS
    return Cells(reader, labels, codes_CT)


def train_files(
    backend: Backend, plates: Sequence[Path], store: Path | None, collection: Path | None
) -> list[Path]:
    """Files, or the folder, that a back-end reads training cells from."""
    if backend == "h5ad":
        return list(plates)
    if backend == "zarr":
        if collection is None:
            raise InputError("backend is zarr: name the folder of collect_plates by --collection.")
        return [collection]
    if store is None:
        raise InputError("The cells are read from our store: name shuffle_plates' by --store.")
    return [store]


def open_train(
    backend: Backend, files: Sequence[Path], genes: np.ndarray, origin: Mapping
) -> Reader:
    """The cells that are learned from, as origin_of has them.

    `genes` are those of the plates that are scored: a gene's id must mean the same everywhere.
    """
    if backend == "h5ad":
        reader = open_plates(files, origin["max_train_cells"])
        own, about = reader.genes, origin
    elif backend == "zarr":
        reader = ZarrReader(files[0])
        own, about = reader.genes, read_about(files[0])
    else:
        store = open_store(files[0])
        reader, about = StoreReader(store), store.manifest["about"]
        own = names_path(files[0], "rna", "human").read_text().splitlines()
    if not np.array_equal(np.asarray(own, dtype=str), np.asarray(genes, dtype=str)):
        raise InputError(
            f"{files[0]} has {len(own)} genes, other than the {len(genes)} of the plates that are "
            "scored, or in another order. Make it anew from plates of one kind."
        )
    for key, expected in origin.items():
        if key not in about or about[key] != expected:
            program = "collect_plates" if backend == "zarr" else "shuffle_plates"
            raise InputError(
                f"{files[0]} has {key} {about.get(key)!r}; expected {expected!r}, for its cells "
                f"must be those of loader.data.train_plates. Rerun {program} with these plates and "
                "this max_train_cells."
            )
    return reader


class Watched:
    """Batches, and how mixed they are: entropies of plates and labels, in bits."""

    def __init__(self, batches: DenseBatches, cells: Cells):
        self.batches, self.reader = batches, batches.reader
        self.codes = cells.numbers()
        self.sums, self.count, self.lock = np.zeros(len(self.codes)), 0, threading.Lock()

    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        cells = buffer.positions[places]
        entropies = [entropy_bits(codes[cells]) for codes in self.codes.values()]
        # Several threads make batches.
        with self.lock:
            self.sums, self.count = self.sums + entropies, self.count + 1
        return self.batches.batch(buffer, places, draw)

    def mean(self) -> dict[str, float]:
        means = (self.sums / self.count).tolist()
        return dict(zip(self.codes, means, strict=True))


class Announced:
    """A reader that says when it is read from."""

    def __init__(self, reader: Reader, say: Callable[[], None]):
        self.reader, self.say, self.block_size = reader, say, reader.block_size

    def __len__(self) -> int:
        return len(self.reader)

    def read(self, positions: np.ndarray) -> Buffer:
        self.say()
        return self.reader.read(positions)

    def label_codes(self, columns: Sequence[str]) -> LabelCodes:
        return self.reader.label_codes(columns)


class RecordedLoss:
    """The multi-task loss, and what each task has of it: curves of one task need it apart."""

    def __init__(self, interval: int, num_val_cells: int, validated: Callable[[], None]):
        self.interval = interval
        self.num_val_cells, self.validated = num_val_cells, validated
        self.cells = 0
        self.step = 0
        self.rows: list[tuple[int, str, str, float]] = []  # step, set, task, loss per cell
        self.sums = {"train": self._nothing(), "val": self._nothing()}

    @staticmethod
    def _nothing() -> list[np.ndarray | int]:
        return [np.zeros(len(TASKS)), 0]

    def __call__(
        self, model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, int]:
        del generator  # nothing is hidden and nothing drawn
        name = "train" if model.training else "val"
        losses_T, num_cells = task_losses(model, batch), len(batch["labels"])
        sums = self.sums[name]
        sums[0] = sums[0] + losses_T.detach().cpu().numpy()
        sums[1] += num_cells
        if name == "train":
            self.step += 1
            self.cells += num_cells
            if self.step % self.interval == 0:
                self.flush("train")
        elif sums[1] == self.num_val_cells:
            self.flush("val")
            self.validated()
        return losses_T.sum(), num_cells

    def flush(self, name: str) -> None:
        """A row for each task, of the batches since the last ones."""
        sums, count = self.sums[name]
        if count:
            losses = (sums / count).tolist()
            self.rows += [
                (self.step, name, task, loss) for task, loss in zip(TASKS, losses, strict=True)
            ]
        self.sums[name] = self._nothing()


def entropies_of_chance(cells: Cells, batch_size: int, seed: int) -> dict[str, float]:
    """The same of batches that are drawn from all cells alike: the most that can be expected."""
    generator = generator_of(seed, 17)
    num_cells = len(cells.reader)
    drawn = [
        generator.integers(num_cells, size=min(batch_size, num_cells))
        for _ in range(BATCHES_OF_CHANCE)
    ]
    return {
        name: float(np.mean([entropy_bits(codes[batch]) for batch in drawn]))
        for name, codes in cells.numbers().items()
    }


def entropy_bits(codes_B: np.ndarray) -> float:
    """Of the labels of a batch: 0 where all are alike, 1 for two halves."""
    numbers = np.bincount(codes_B)
    share = numbers[numbers > 0] / len(codes_B)
    return float(-(share * np.log2(share)).sum()) + 0.0


@dataclass(frozen=True)
class Trained:
    """One run: what it was and took, rows of losses, predicted classes of test cells."""

    about: dict
    metrics: list[list[float | None]]
    curves: list[tuple[int, str, str, float]]  # step, set, task, loss
    predicted_CT: np.ndarray


def run_seed(
    experiment: Experiment,
    config: Loader,
    strategy: str,
    seed: int,
    threads: int,
    process: Process,
    say: Callable[[str], None] = print,
) -> Trained:
    """Train with measured effort, and predict the test cells with the best epoch's weights."""
    warm_up(experiment, config, strategy)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cache = prepare_cache(config.cache, experiment)
    torch.manual_seed(seed)
    sizes = [len(experiment.classes[task]) for task in TASKS]
    model = MultiTaskLinear(experiment.num_genes, sizes)
    scale = config.training.input

    def dense(cells: Cells, reader: Reader | None = None) -> DenseBatches:
        return DenseBatches(reader or cells.reader, cells.classes_CT, experiment.num_genes, scale)

    watched = Watched(dense(experiment.train, experiment.reopen()), experiment.train)
    optimizer, scheduler, training = config.fitting(seed)
    loading = config.loading(strategy)
    settings = Settings(optimizer, scheduler, training, loading)
    # Validation is the same whatever the strategy: what it takes is not counted.
    meter, val, num_val_cells, epochs = Meter(), None, 0, iter(range(1, training.max_epochs))

    def validated() -> None:
        if next(epochs, None) is not None:
            meter.start()

    if experiment.val:
        num_val_cells = len(experiment.val.reader)
        val = dense(experiment.val, Announced(experiment.val.reader, meter.pause))
    loss = RecordedLoss(config.output.log_interval, num_val_cells, validated)
    with tempfile.TemporaryDirectory() as state:
        meter.start()
        weights, progress = train(
            model,
            loss,
            watched,
            val,
            settings,
            process,
            Path(state),
            say,
            threads,
        )
        meter.pause()
    loss.flush("train")
    used = meter.consumption()
    model.load_state_dict(weights)
    settings_kept = config.only(strategy).model_dump(mode="json")
    about = {
        "strategy": strategy,
        "backend": config.backend_of(strategy),
        "block_size": getattr(getattr(config.strategies, strategy), "block_size", None),
        "fetch_factor": config.scdataset.fetch_factor,
        "batch_size": config.training.batch_size,
        "input": scale,
        "seed": seed,
        "threads": threads,
        "cache": cache,
        "load_average": load,
        "num_train_cells": len(experiment.train.reader),
        "num_test_cells": len(experiment.test.reader),
        "num_genes": experiment.num_genes,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "best_loss": progress.best,
        "cells": loss.cells,
        "cells_per_second": loss.cells / used.seconds,
        "wait_share": progress.waited / used.seconds,
        **asdict(used),
        "entropy": watched.mean(),
        "entropy_of_chance": entropies_of_chance(
            experiment.train, config.training.batch_size, seed
        ),
        "config": settings_kept,
        "config_digest": digest(settings_kept),
        "versions": versions(),
        **experiment.digests,
    }
    return Trained(about, progress.rows, loss.rows, predict(model, dense(experiment.test)))


def warm_up(experiment: Experiment, config: Loader, strategy: str) -> None:
    """Learn from one batch: what is imported or compiled at its first use is no strategy's time."""
    cells, loading = experiment.train, config.loading(strategy)
    batches = DenseBatches(
        cells.reader, cells.classes_CT, experiment.num_genes, config.training.input
    )
    size = min(config.training.batch_size, len(cells.reader))
    feed = Feed(batches, loading.model_copy(update={"fetch_factor": 1}), Share(0, 1, size, 1), 0)
    with closing(feed.steps(epoch=0)) as steps:
        batch = next(steps)
    model = MultiTaskLinear(experiment.num_genes, [len(its) for its in experiment.classes.values()])
    optimizer = build_optimizer(model, config.fitting(seed=0)[0])
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    task_losses(model, tensors).sum().backward()
    optimizer.step()


def prepare_cache(wanted: str, experiment: Experiment) -> str:
    """Bring the files that are trained on to the wanted state; in which state they are."""
    files = experiment.files
    if wanted == "warm":
        read_once(files)
        size = sum(file.stat().st_size for file in files_under(files))
        # Of more than fits, the system keeps what was read last.
        return "warm" if size <= room_for_files() else "partly warm"
    return "cold" if forget_files(files) else "unknown"


def room_for_files() -> int:
    """Bytes of files that the system can keep in memory, within the job's own limit (cgroup v2)."""
    room = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    if MEMORY.exists():
        lines = dict(line.split(":") for line in MEMORY.read_text().splitlines())
        # What holds files now counts as available.
        room.append(int(lines["MemAvailable"].split()[0]) * 1024)
    if JOB.exists():
        names = [line for line in JOB.read_text().splitlines() if line.startswith("0::")]
        for folder in [GROUPS / name.removeprefix("0::").strip("/") for name in names]:
            limits = [path / "memory.max" for path in (folder, *folder.parents)]
            found = [path.read_text().strip() for path in limits if path.is_file()]
            room += [int(limit) for limit in found if limit != "max"]
    return min(room)


@torch.no_grad()
def predict(model: MultiTaskLinear, batches: DenseBatches) -> np.ndarray:
    """Classes of all cells, int64 [C, T], read from first to last."""
    model.eval()
    reader, predicted = batches.reader, []
    for first in range(0, len(reader), CELLS_TO_PREDICT):
        cells = np.arange(first, min(first + CELLS_TO_PREDICT, len(reader)))
        buffer = reader.read(cells)
        for places in np.array_split(np.arange(len(cells)), -(-len(cells) // 256)):
            values_BG = torch.from_numpy(batches.batch(buffer, places, BatchDraw(0, 0))["counts"])
            logits = model(values_BG)
            predicted.append(torch.stack([its.argmax(dim=1) for its in logits], dim=1).numpy())
    return np.concatenate(predicted)


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that cells go through; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
