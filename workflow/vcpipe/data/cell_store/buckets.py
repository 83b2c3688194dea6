"""Cells on their way to their place on disk: written to buckets as they come, read back sorted.

Each bucket holds the cells of one stretch of places, so that sorting one after the other sorts all.
Memory holds a buffer of cells, or a part of a bucket, never a number per cell.
"""

# R cells of a part, M modalities, L columns of labels

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from vcpipe.data.cell_store.blocks import decode, encode
from vcpipe.data.cell_store.cells import Cells, cells_of, copy_entries
from vcpipe.data.cell_store.layout import SETS
from vcpipe.data.cell_store.places import Stretches
from vcpipe.data.cell_store.threads import in_order

BYTES_PER_ENTRY = 8  # of a detected feature in memory: id and count
ENTRIES_PER_PIECE = 2**20
# Most cells of one bucket that are expected to fit in memory; where they do not, the bucket is read
# in parts.
EXPECTED_ENTRIES = 3000
KEY = np.dtype([("key", "<u8"), ("row", "<u8"), ("source", "<u4")])


def record_type(num_labels: int, num_modalities: int) -> np.dtype:
    """What is known of a cell beside its counts."""
    return np.dtype(
        [
            ("order", "<u8"),
            ("key", "<u8"),
            ("row", "<u8"),
            ("rank", "<u4"),
            ("source", "<u4"),
            ("dataset", "<u4"),
            ("species", "<u4"),
            ("set", "<u4"),
            ("name_length", "<u4"),
            ("labels", "<i4", (num_labels,)),
            ("totals", "<u8", (num_modalities,)),
            ("lengths", "<u4", (num_modalities,)),
        ]
    )


@dataclass(frozen=True)
class Part:
    """Cells of consecutive places, and the order in which they stand; valid until the next part."""

    about: np.ndarray  # records, in order
    names: pa.Array  # in order
    chosen: np.ndarray  # int64 [R]: which of the cells below stands first, second, ...
    cells: list[Cells]  # of each modality


class Buckets:
    """add() cells, flush(), then go over parts()."""

    def __init__(
        self,
        folder: Path,
        stretches: Stretches,
        record: np.dtype,
        num_modalities: int,
        memory: int,
        pool: ThreadPoolExecutor | None,
    ):
        folder.mkdir()
        self.folder, self.stretches, self.record, self.pool = folder, stretches, record, pool
        self.memory, self.num_modalities = memory, num_modalities
        self.capacity = memory // BYTES_PER_ENTRY // num_modalities
        self.ids = [np.empty(self.capacity, dtype=np.int32) for _ in range(num_modalities)]
        self.counts = [np.empty(self.capacity, dtype=np.uint32) for _ in range(num_modalities)]
        self._empty()

    def _empty(self) -> None:
        self.used = [0] * self.num_modalities
        self.num_waiting = 0
        self.first: list[np.ndarray] = []  # [cells, M]
        self.about: list[np.ndarray] = []
        self.names: list[bytes] = []

    def room(self, modality: int, num_entries: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the ids and counts of the next cells are to be written; makes room for them."""
        start = self.used[modality]
        if start + num_entries > len(self.ids[modality]):
            # Only cells that were added leave; those being written begin at 0 then.
            assert start == 0, "make_room comes before the first modality is written"
            self.ids[modality] = np.empty(num_entries, dtype=np.int32)
            self.counts[modality] = np.empty(num_entries, dtype=np.uint32)
        return self.ids[modality][start:], self.counts[modality][start:]

    def make_room(self, num_entries: list[int]) -> None:
        """Write out what waits where the next cells would not fit beside it."""
        full = any(
            used and used + number > len(ids)
            for used, number, ids in zip(self.used, num_entries, self.ids, strict=True)
        )
        # Records of cells with few features would fill memory, too.
        if full or self.num_waiting * (self.record.itemsize + 200) > self.memory:
            self.flush()

    def add(self, about: np.ndarray, names: list[bytes], first: np.ndarray, written: list[int]):
        """Cells whose entries lie at `first` [cells, M]; `written` entries of each modality."""
        self.about.append(about)
        self.names += names
        self.first.append(first)
        self.num_waiting += len(about)
        self.used = [used + number for used, number in zip(self.used, written, strict=True)]

    def flush(self) -> None:
        if not self.num_waiting:
            self._empty()
            return
        about, first = np.concatenate(self.about), np.concatenate(self.first)
        cells = [
            Cells(
                np.ascontiguousarray(first[:, m]),
                np.ascontiguousarray(about["lengths"][:, m]),
                self.ids[m],
                self.counts[m],
                about["totals"][:, m],
                about["key"],
            )
            for m in range(self.num_modalities)
        ]
        names = self.names
        self._append_keys(about)
        bucket = self.stretches.bucket(about["rank"], about["order"])

        def packed(item: tuple[int, np.ndarray]) -> tuple[int, bytes]:
            number, chosen = item
            blocks = [encode(its, chosen, "lz4", 1) for its in cells]
            text = b"".join([names[cell] for cell in chosen.tolist()])
            sizes = np.array([len(chosen), len(text), *map(len, blocks)], dtype="<u8")
            return number, b"".join([sizes.tobytes(), about[chosen].tobytes(), text, *blocks])

        for number, piece in in_order(self.pool, packed, _pieces(bucket, about["lengths"])):
            with self._path(number).open("ab") as file:
                file.write(piece)
        self._empty()

    def _path(self, bucket: int) -> Path:
        return self.folder / f"bucket_{bucket:06d}"

    def _append_keys(self, about: np.ndarray) -> None:
        """Keys once more, in 64 files by their first bits, to find those that stand twice."""
        once = about[about["rank"] < len(SETS)]
        keys = np.empty(len(once), dtype=KEY)
        for name in KEY.names:
            keys[name] = once[name]
        top = once["key"] >> np.uint64(58)
        for number in np.unique(top):
            with (self.folder / f"keys_{number:02d}").open("ab") as file:
                file.write(keys[top == number].tobytes())

    def twice(self) -> Iterator[np.ndarray]:
        """Pairs of cells (key, row, source) with the same key."""
        for path in sorted(self.folder.glob("keys_*")):
            keys = np.fromfile(path, dtype=KEY)
            keys = keys[np.lexsort((keys["row"], keys["source"], keys["key"]))]
            same = np.flatnonzero(keys["key"][1:] == keys["key"][:-1])
            for first in same:
                yield keys[first : first + 2]
            path.unlink()

    def parts(self) -> Iterator[Part]:
        """All cells in order; a bucket is removed once it was read."""
        for number in range(self.stretches.num_buckets):
            path = self._path(number)
            if path.exists():
                yield from self._bucket_parts(path)
                path.unlink()

    def _bucket_parts(self, path: Path) -> Iterator[Part]:
        pieces = list(_read_pieces(path, self.record, self.num_modalities))
        about = np.concatenate([piece.about for piece in pieces])
        names = _names(pieces, about["name_length"])
        order = np.lexsort((about["order"], about["rank"]))
        sizes = about["lengths"].sum(axis=1, dtype=np.int64) * BYTES_PER_ENTRY
        ends = np.cumsum(sizes[order])
        number = (ends - 1) // self.memory  # of the part that a cell falls into
        cuts = np.append(np.flatnonzero(np.diff(number)) + 1, len(order))
        start = 0
        for stop in cuts.tolist():
            chosen = order[start:stop]
            cells, place = self._read_cells(path, pieces, about, chosen)
            yield Part(about[chosen], names.take(pa.array(chosen)), place, cells)
            start = stop

    def _read_cells(self, path, pieces, about, chosen) -> tuple[list[Cells], np.ndarray]:
        """Cells of a bucket that are wanted, as they lie in it, and where each wanted one is."""
        wanted = np.zeros(len(about), dtype=bool)
        wanted[chosen] = True
        place = (np.cumsum(wanted) - 1)[chosen]
        starts = np.append(0, np.cumsum([len(piece.about) for piece in pieces]))
        kept = about[wanted]
        needed = [n for n in range(len(pieces)) if wanted[starts[n] : starts[n + 1]].any()]
        made = []
        with path.open("rb") as file:
            for m in range(self.num_modalities):
                lengths = np.ascontiguousarray(kept["lengths"][:, m])
                first = np.append(0, np.cumsum(lengths, dtype=np.int64))
                # The buffer of the first pass, whose pages are there.
                self.used[m] = 0
                ids, counts = self.room(m, int(first[-1]))

                def decoded(number: int, m: int = m) -> tuple[np.ndarray, Cells]:
                    offset, size = pieces[number].blocks[m]
                    block = os.pread(file.fileno(), size, offset)
                    its = np.flatnonzero(wanted[starts[number] : starts[number + 1]])
                    return its, cells_of(decode(block, "lz4"))

                filled = 0
                for its, cells in in_order(self.pool, decoded, needed):
                    filled += copy_entries(
                        cells.first,
                        cells.lengths,
                        cells.ids,
                        cells.counts,
                        its,
                        ids[filled:],
                        counts[filled:],
                    )
                totals = np.ascontiguousarray(kept["totals"][:, m])
                keys = np.ascontiguousarray(kept["key"])
                made.append(Cells(first[:-1], lengths, ids, counts, totals, keys))
        return made, place


@dataclass(frozen=True)
class _Piece:
    about: np.ndarray
    names: bytes
    blocks: list[tuple[int, int]]  # offset and size in the file, of each modality


def _pieces(bucket: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Cells of each bucket, in pieces of bounded size."""
    order = np.argsort(bucket, kind="stable")
    entries = np.cumsum(lengths.sum(axis=1, dtype=np.int64)[order])
    changes = np.diff(bucket[order]) != 0
    changes |= np.diff(entries // ENTRIES_PER_PIECE) != 0
    cuts = [0, *(np.flatnonzero(changes) + 1).tolist(), len(order)]
    for start, stop in pairwise(cuts):
        yield int(bucket[order[start]]), order[start:stop]


def _read_pieces(path: Path, record: np.dtype, num_modalities: int) -> Iterator[_Piece]:
    """What is known of the cells of a bucket; their counts stay on disk."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            num_cells, num_bytes, *lengths = np.fromfile(
                file, dtype="<u8", count=2 + num_modalities
            ).tolist()
            about = np.fromfile(file, dtype=record, count=num_cells)
            names = file.read(num_bytes)
            blocks, offset = [], file.tell()
            for length in lengths:
                blocks.append((offset, length))
                offset += length
            file.seek(offset)
            yield _Piece(about, names, blocks)


def _names(pieces: list[_Piece], lengths: np.ndarray) -> pa.Array:
    offsets = np.append(0, np.cumsum(lengths, dtype=np.int64))
    text = pa.py_buffer(b"".join([piece.names for piece in pieces]))
    buffers = [None, pa.py_buffer(offsets), text]
    return pa.Array.from_buffers(pa.large_string(), len(lengths), buffers)
