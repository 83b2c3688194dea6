"""Cells of our store: blocks are decoded one by one, by as many threads as there are."""

# B cells of a batch, N detected features of all of them

import contextlib
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vcpipe.data.cell_store.cells import Cells, copied, gathered
from vcpipe.data.cell_store.layout import MANIFEST
from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.loading.reader import LabelCodes
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.packing import starts_of
from vcpipe.errors import InputError, listed
from vcpipe.files import read_json

# Combinations of labels that are looked up in a table, which is faster than a search.
LARGEST_TABLE = 2**22
MOST_COMBINATIONS = 2**62
LABELS_AT_ONCE = 2**16
# Buffers that come and go at the same time: one is learned from, one is filled, one is let go.
MOST_SPARE = 2


class StoreReader:
    """A range of a store's positions; `groups` are starts and stops, counted from its beginning."""

    def __init__(
        self,
        store: CellStore,
        positions: range | None = None,
        modality: str = "rna",
        groups: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        self.store, self.modality, self.groups = store, modality, groups
        self.range = store.sets["train"] if positions is None else positions
        self.block_size = store.block_size
        about = store.manifest
        most_ids = max(about["modalities"][modality]["num_features"].values())
        largest = about["statistics"]["modalities"][modality]["largest_count"]
        # 16 bits hold nearly everything, at half of the memory.
        self.id_kind = np.uint16 if most_ids <= 2**16 else np.int32
        self.count_kind = np.uint16 if largest < 2**16 else np.uint32
        self._spare: list[tuple[np.ndarray, np.ndarray]] = []
        self._manifest = store.path / MANIFEST
        self._stamp = _stamp(self._manifest)

    def __len__(self) -> int:
        if self.groups is None:
            return len(self.range)
        starts, stops = self.groups
        return int((stops - starts).sum())

    def store_positions(self, positions: np.ndarray) -> np.ndarray:
        return np.asarray(positions, dtype=np.int64) + self.range.start

    def read(self, positions: np.ndarray) -> "StoreBuffer":
        buffer, tasks = self.begin(positions)
        for task in tasks:
            task()
        return buffer

    def begin(self, positions: np.ndarray) -> tuple["StoreBuffer", list[Callable[[], None]]]:
        """A buffer, and the tasks that fill it, in any order and by any threads."""
        self._refuse_changed()
        buffer = StoreBuffer(self, np.asarray(positions, dtype=np.int64))
        return buffer, buffer.tasks()

    def label_codes(self, columns: Sequence[str]) -> LabelCodes:
        file, names = self.store.label_file, list(columns)
        unknown = [name for name in names if name not in self.store.manifest["labels"]]
        if "dataset" in unknown:
            unknown.remove("dataset")
        if unknown:
            raise InputError(
                f"{self.store.path} has no label {listed(unknown)}; it has "
                f"{listed(['dataset', *self.store.manifest['labels']], 30)}."
            )
        words = [file.words(name) for name in names]
        sizes = [len(its) for its in words]
        first, num_possible = self.range.start, math.prod(sizes)
        if num_possible > MOST_COMBINATIONS:
            raise InputError(
                f"{listed(names)} have {num_possible} possible combinations; expected at most "
                f"{MOST_COMBINATIONS}. Name fewer labels."
            )

        def numbers(start: int, stop: int) -> np.ndarray:
            """All labels as digits of one number; -1 where one is missing."""
            made, is_missing = np.zeros(stop - start, np.int64), np.zeros(stop - start, bool)
            for name, size in zip(names, sizes, strict=True):
                codes = file.codes(name, first + start, first + stop)
                is_missing |= codes < 0
                made = made * size + codes
            made[is_missing] = -1
            return made

        parts = range(0, len(self), LABELS_AT_ONCE)
        found = [np.unique(numbers(at, min(at + LABELS_AT_ONCE, len(self)))) for at in parts]
        present = np.unique(np.concatenate([*found, np.zeros(0, np.int64)]))
        present = present[present >= 0]
        combinations = []
        for number in present.tolist():
            digits = []
            for size in reversed(sizes):
                number, digit = divmod(number, size)
                digits.append(digit)
            its = zip(words, reversed(digits), strict=True)
            combinations.append(tuple(word[digit] for word, digit in its))
        place = _places(present, num_possible)
        return LabelCodes(combinations, lambda start, stop: place(numbers(start, stop)))

    def lend(self, num_entries: int) -> tuple[np.ndarray, np.ndarray]:
        """Memory for ids and counts, of a former buffer where there is one.

        What the system gives anew it clears first, which takes nearly as long as decoding.
        """
        while self._spare:
            with contextlib.suppress(IndexError):
                arrays = self._spare.pop()
                if len(arrays[0]) >= num_entries:
                    return arrays
        size = num_entries + num_entries // 8  # other buffers are a little larger
        return np.empty(size, self.id_kind), np.empty(size, self.count_kind)

    def take_back(self, arrays: tuple[np.ndarray, np.ndarray]) -> None:
        if len(self._spare) < MOST_SPARE:
            self._spare.append(arrays)

    def _refuse_changed(self) -> None:
        """A store that is written anew has other cells at the same positions."""
        stamp = _stamp(self._manifest)
        if stamp == self._stamp:
            return
        known = self.store.manifest["manifest_digest"]
        found = read_json(self._manifest, "the manifest that prepare_cells writes")
        if found.get("manifest_digest") != known:
            raise InputError(
                f"{self.store.path} changed while it was read: its manifest_digest was {known} and "
                f"is {found.get('manifest_digest')}. Start the run again, so that it reads one "
                "store from beginning to end."
            )
        self._stamp = stamp


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        its = path.stat()
    except FileNotFoundError:
        raise InputError(
            f"{path} is gone: the store was removed while it was read. Rerun prepare_cells."
        ) from None
    return its.st_ino, its.st_size, its.st_mtime_ns


def _places(present: np.ndarray, num_possible: int) -> Callable[[np.ndarray], np.ndarray]:
    """From a number to its place among those that are present; -1 stays -1."""
    if num_possible <= LARGEST_TABLE:
        table = np.full(num_possible + 1, -1, dtype=np.int64)
        table[present] = np.arange(len(present))
        return table.__getitem__  # the last one, at -1, is -1

    def search(numbers: np.ndarray) -> np.ndarray:
        return np.where(numbers < 0, -1, np.searchsorted(present, numbers))

    return search


class StoreBuffer:
    """Decoded blocks, or the wanted cells of them where they are few."""

    def __init__(self, reader: StoreReader, positions: np.ndarray):
        self.reader, self.positions = reader, positions
        store = reader.store
        blocks, rows = store.block_of(reader.store_positions(positions))
        self.blocks, block = np.unique(blocks, return_inverse=True)
        sizes = np.array([len(store.block_positions(number)) for number in self.blocks.tolist()])
        self.keeps_all = 2 * len(positions) >= sizes.sum()
        self._lock = threading.Lock()
        self.held: Cells | None = None
        if self.keeps_all:
            self.cell_starts = starts_of(sizes)
            self.cell = self.cell_starts[block] + rows
            entries = store.index[reader.modality]["entries"][self.blocks]
            self.entry_starts = starts_of(entries.astype(np.int64))
            self._allocate(int(self.cell_starts[-1]), int(self.entry_starts[-1]))
        else:
            wanted = np.unique(block * store.block_size + rows)
            self.cell = np.searchsorted(wanted, block * store.block_size + rows)
            its_block, self.wanted_rows = np.divmod(wanted, store.block_size)
            self.cell_starts = starts_of(np.bincount(its_block, minlength=len(self.blocks)))
            self._parts: list[Cells | None] = [None] * len(self.blocks)

    def tasks(self) -> list[Callable[[], None]]:
        fill = self._fill_block if self.keeps_all else self._fill_part
        return [lambda number=number: fill(number) for number in range(len(self.blocks))]

    def cells(self, places: np.ndarray) -> tuple[Cells, np.ndarray]:
        if self.held is None:
            self._join()
        return self.held, self.cell[places]

    def rows(self, places: np.ndarray) -> Rows:
        return gathered(*self.cells(places))

    def _allocate(self, num_cells: int, num_entries: int) -> None:
        self._lent = self.reader.lend(num_entries)
        self.held = Cells(
            np.empty(num_cells, np.int64),
            np.empty(num_cells, np.uint32),
            *(its[:num_entries] for its in self._lent),
            np.empty(num_cells, np.uint64),
            np.empty(num_cells, np.uint64),
        )

    def __del__(self):
        # All that leaves a buffer is copied, so nothing else can look at these arrays.
        if getattr(self, "_lent", None) is not None:
            self.reader.take_back(self._lent)

    def _fill_block(self, number: int) -> None:
        held = self.held
        cells = slice(*self.cell_starts[number : number + 2])
        entries = slice(*self.entry_starts[number : number + 2])
        its = self.reader.store.open_block(
            int(self.blocks[number]), self.reader.modality, held.ids[entries], held.counts[entries]
        )
        held.first[cells] = its.starts[:-1] + entries.start
        held.lengths[cells] = np.diff(its.starts)
        held.totals[cells], held.keys[cells] = its.totals, its.keys

    def _fill_part(self, number: int) -> None:
        store, modality = self.reader.store, self.reader.modality
        block = int(self.blocks[number])
        num_entries = int(store.index[modality]["entries"][block])
        ids = np.empty(num_entries, self.reader.id_kind)
        counts = np.empty(num_entries, self.reader.count_kind)
        its = store.open_block(block, modality, ids, counts)
        lengths = np.diff(its.starts)
        rows = self.wanted_rows[slice(*self.cell_starts[number : number + 2])]
        chosen = Cells(its.starts[:-1], lengths, ids, counts, its.totals, its.keys)
        self._parts[number] = copied([chosen], [rows])

    def _join(self) -> None:
        """Put the parts together when all are there."""
        with self._lock:
            if self.held is None:
                self.held = copied(self._parts, [np.arange(len(part)) for part in self._parts])
                self._parts = []
