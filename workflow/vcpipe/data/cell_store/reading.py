"""Open a store and read cells of it: nothing but maps of its index is in memory."""

import os
import threading
import weakref
from collections import OrderedDict
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import xxhash

from vcpipe.data.cell_store.blocks import OpenBlock, open_block
from vcpipe.data.cell_store.cells import NOTHING, cells_of, copied, rows_of
from vcpipe.data.cell_store.labels import LabelFile
from vcpipe.data.cell_store.layout import (
    FORMAT,
    GROUPED,
    GROUPS,
    LABELS,
    MANIFEST,
    Run,
    index_path,
    lengths_path,
    measured_path,
    names_path,
    shard_name,
)
from vcpipe.data.cell_store.measured import feature_ids
from vcpipe.data.cell_store.verification import check_sizes, digests_of, verify_files
from vcpipe.data.rows import Rows
from vcpipe.data.sources.source import MODALITIES
from vcpipe.errors import InputError
from vcpipe.files import read_json

BLOCKS_KEPT = 8


class CellStore:
    """Cells by position: 0 to len(store) - 1, the sets one after the other, then the grouped copy.

    Threads may read at the same time; another process opens the store anew when it is unpickled.
    """

    def __init__(self, path: Path, manifest: dict):
        self.path, self.manifest = path, manifest
        self.modalities = [name for name in MODALITIES if name in manifest["modalities"]]
        self.block_size: int = manifest["block_size"]
        self.runs = [Run(**its) for its in manifest["runs"]]
        self.index = {
            name: np.load(index_path(path, name), mmap_mode="r") for name in self.modalities
        }
        self._run_starts = np.array([run.start for run in self.runs])
        self._first_blocks = np.array([run.first_block for run in self.runs])
        self._handles: dict[tuple[str, int], int] = {}
        self._kept: OrderedDict[tuple[int, str], Rows] = OrderedDict()
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._handles)

    def __len__(self) -> int:
        return self.manifest["num_cells"]

    def __reduce__(self):
        return open_store, (self.path,)

    @property
    def sets(self) -> dict[str, range]:
        """Positions of train, val and test."""
        return {run.name: range(run.start, run.stop) for run in self.runs if run.name != GROUPED}

    @property
    def grouped(self) -> range:
        """Positions of the copy of train that lies by group; empty where there is none."""
        found = [run for run in self.runs if run.name == GROUPED]
        return range(found[0].start, found[0].stop) if found else range(0)

    @cached_property
    def groups(self) -> pd.DataFrame:
        """Dataset, labels, start and stop (positions) of each group; none without group_by."""
        if not (self.path / GROUPS).exists():
            return pd.DataFrame({"dataset": [], "start": [], "stop": []})
        with pa.memory_map(str(self.path / GROUPS)) as file:
            return pa.ipc.open_file(file).read_all().to_pandas()

    @cached_property
    def label_file(self) -> LabelFile:
        return LabelFile(self.path / LABELS)

    def labels(self, positions=None, columns: list[str] | None = None) -> pa.Table:
        """Labels of cells; of all, without a copy, where no positions are given."""
        if positions is None:
            table = self.label_file.table()
            return table.select(columns) if columns else table
        return self.label_file.take(self._checked(positions), columns)

    @cached_property
    def measured(self) -> dict[str, dict[str, np.ndarray]]:
        """By modality and dataset: ids of features that all of its parts measured, ascending."""
        return self._feature_sets(0)

    @cached_property
    def features_present(self) -> dict[str, dict[str, np.ndarray]]:
        """By modality and dataset: ids of features that any of its parts measured."""
        return self._feature_sets(1)

    def _feature_sets(self, which: int) -> dict[str, dict[str, np.ndarray]]:
        made = {}
        for modality in self.modalities:
            bits = np.load(measured_path(self.path, modality), mmap_mode="r")
            datasets = sorted(self.manifest["datasets"])
            made[modality] = {
                dataset: feature_ids(bits[number, which]) for number, dataset in enumerate(datasets)
            }
        return made

    def feature_names(self, modality: str, species: str) -> list[str]:
        """Names by id, special tokens included."""
        return names_path(self.path, modality, species).read_text().split("\n")[:-1]

    def length_histogram(self, modality: str) -> np.ndarray:
        """How many cells have 0, 1, 2, ... detected features."""
        return np.load(lengths_path(self.path, modality))

    @property
    def num_blocks(self) -> int:
        return len(self.index[self.modalities[0]])

    def block_of(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In which block each cell lies, and at which place of it."""
        # Of runs that begin at the same position the first are empty.
        run = np.searchsorted(self._run_starts, positions, side="right") - 1
        block, place = np.divmod(positions - self._run_starts[run], self.block_size)
        return self._first_blocks[run] + block, place

    def block_positions(self, number: int) -> range:
        """Positions of the cells of a block."""
        run = self.runs[np.searchsorted(self._first_blocks, number, side="right") - 1]
        start = run.start + (number - run.first_block) * self.block_size
        return range(start, min(start + self.block_size, run.stop))

    def block(self, number: int, modality: str = "rna") -> Rows:
        """Read, check and decode one block."""
        num_entries = int(self.index[modality][number]["entries"])
        ids, counts = np.empty(num_entries, np.int32), np.empty(num_entries, np.uint32)
        its = self.open_block(number, modality, ids, counts)
        return Rows(its.starts, ids, counts, its.totals.copy(), its.keys.copy())

    def open_block(
        self, number: int, modality: str, ids: np.ndarray, counts: np.ndarray
    ) -> OpenBlock:
        """Read and check one block, and unpack its entries into arrays that hold as many."""
        where = self.index[modality][number]
        shard, offset, length = int(where["shard"]), int(where["offset"]), int(where["length"])
        data = os.pread(self._handle(modality, shard), length, offset)
        if len(data) != length or xxhash.xxh3_64_intdigest(data) != where["xxh3"]:
            raise InputError(self._damaged(number, modality, shard, offset, length, len(data)))
        try:
            its = open_block(data, self.manifest["compression"])
            its.unpack(ids, counts)
            return its
        except (ValueError, OSError) as error:
            what = self._damaged(number, modality, shard, offset, length, len(data))
            raise InputError(f"{what} ({error})") from error

    def rows(self, positions, modality: str = "rna") -> Rows:
        """Cells in the order of their positions; some blocks are kept for the next call."""
        positions = self._checked(positions)
        if not len(positions):
            return rows_of(NOTHING)
        blocks, places = self.block_of(positions)
        order = np.argsort(blocks, kind="stable")
        numbers, starts = np.unique(blocks[order], return_index=True)
        parts, back = [], np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        for number, chosen in zip(
            numbers.tolist(), np.split(places[order], starts[1:]), strict=True
        ):
            parts.append(copied([cells_of(self._kept_block(number, modality))], [chosen]))
        joined = parts[0]
        if len(parts) > 1:
            joined = copied(parts, [np.arange(len(part)) for part in parts])
        in_order = (np.diff(order) == 1).all()
        return rows_of(joined if in_order else copied([joined], [back]))

    def verify(self) -> int:
        """Read all files and compare their sha256; how many bytes."""
        return verify_files(self.path, self.manifest)

    def _kept_block(self, number: int, modality: str) -> Rows:
        with self._lock:
            if (number, modality) in self._kept:
                self._kept.move_to_end((number, modality))
                return self._kept[number, modality]
        block = self.block(number, modality)
        with self._lock:
            self._kept[number, modality] = block
            while len(self._kept) > BLOCKS_KEPT:
                self._kept.popitem(last=False)
        return block

    def _handle(self, modality: str, shard: int) -> int:
        with self._lock:
            if (modality, shard) not in self._handles:
                path = self.path / shard_name(modality, shard)
                self._handles[modality, shard] = os.open(path, os.O_RDONLY)
            return self._handles[modality, shard]

    def _checked(self, positions) -> np.ndarray:
        positions = np.asarray(positions, dtype=np.int64)
        end = self.runs[-1].stop
        if len(positions) and not 0 <= positions.min() <= positions.max() < end:
            raise IndexError(
                f"positions {positions.min()} to {positions.max()} of a store of {end}"
            )
        return positions

    def _damaged(self, number, modality, shard, offset, length, found) -> str:
        path = self.path / shard_name(modality, shard)
        what = "is cut off" if found < length else "is not as it was written (xxh3)"
        return (
            f"{path}: block {number} ({length} bytes from {offset} on) {what}: {found} bytes were "
            f"read, the file has {path.stat().st_size}. Copy the store again, or rerun "
            "prepare_cells."
        )


def _close_all(handles: dict) -> None:
    for handle in handles.values():
        os.close(handle)


def open_store(path: Path) -> CellStore:
    """Check the manifest and the sizes of all files; no cell is read."""
    path = Path(path)
    manifest = read_json(path / MANIFEST, "the manifest that prepare_cells writes")
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path} has store format {found!r}; expected {FORMAT}. Rerun prepare_cells."
        )
    for key, made in digests_of(manifest).items():
        if manifest.get(key) != made:
            raise InputError(
                f"{path / MANIFEST} was changed after it was written: its {key} is "
                f"{manifest.get(key)!r}, its content gives {made!r}. Copy the store again, or "
                "rerun prepare_cells."
            )
    check_sizes(path, manifest)
    return CellStore(path, manifest)
