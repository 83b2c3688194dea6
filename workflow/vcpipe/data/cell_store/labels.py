"""Labels of cells in an Arrow file that is mapped into memory; a missing label is null."""

# L columns of labels, G of them that group

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from vcpipe.data.cell_store.layout import LABELS_PER_BATCH, SETS
from vcpipe.errors import InputError, listed

OURS = ("cell", "dataset", "species", "set", "key")
ROWS_AT_ONCE = 2**20  # of the labels of a source, so that little stands beside them


@dataclass(frozen=True)
class LabelWords:
    """Every label of the cells to store, sorted, so that codes do not depend on their order."""

    datasets: list[str]
    species: list[str]
    columns: dict[str, list[str]]

    def codes(self, labels: pd.DataFrame) -> np.ndarray:
        """int32 [cells, L]; -1 where a label is missing."""
        codes = np.full((len(labels), len(self.columns)), -1, dtype=np.int32)
        for column, (name, words) in enumerate(self.columns.items()):
            if name in labels:
                place = {word: number for number, word in enumerate(words)}
                known = labels[name].cat
                # The last stands for pandas' code of a missing label, -1.
                renamed = [place.get(str(word), -1) for word in known.categories] + [-1]
                codes[:, column] = np.array(renamed, dtype=np.int32)[known.codes.to_numpy()]
        return codes


def label_words(sources: list) -> LabelWords:
    """The words of all sources (each with .source and .sets), of cells that are wanted."""
    columns: dict[str, set[str]] = {}
    for each in sources:
        wanted = each.sets < len(SETS)
        for name in each.source.labels.columns:
            known = each.source.labels[name].cat
            used = np.unique(known.codes.to_numpy()[wanted])
            words = {str(known.categories[code]) for code in used if code >= 0}
            columns.setdefault(str(name), set()).update(words)
    clash = sorted(name for name in columns if name in OURS or name.startswith("total_"))
    if clash:
        raise InputError(
            f"Labels named {listed(clash)} cannot be stored beside the store's own columns "
            f"{', '.join(OURS)} and total_*; rename them in obs."
        )
    return LabelWords(
        sorted({each.source.dataset for each in sources}),
        sorted({each.source.species for each in sources}),
        {name: sorted(columns[name]) for name in sorted(columns)},
    )


class Groups:
    """Groups of train cells by dataset and labels, in the order in which they lie."""

    def __init__(self, words: LabelWords, group_by: list[str]):
        missing = [name for name in group_by if name not in words.columns]
        if missing:
            raise InputError(
                f"store.group_by has {listed(missing)}; the cells have the labels "
                f"{listed(words.columns) or 'none'}."
            )
        self.words, self.group_by = words, group_by
        self.places = [list(words.columns).index(name) for name in group_by]
        # A missing label counts as one more label, the last.
        self.sizes = [len(words.columns[name]) + 1 for name in group_by]
        if len(words.datasets) * np.prod([float(size) for size in self.sizes]) >= 2**63:
            raise InputError(
                f"store.group_by {group_by} makes more groups than can be numbered; expected "
                "labels of groups, not of single cells."
            )
        self.numbers = np.empty(0, dtype=np.int64)

    def count(self, sources: list) -> np.ndarray:
        """Find the groups; how many train cells each has."""
        found: Counter[int] = Counter()
        for each in sources:
            for start in range(0, len(each.sets), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                train = each.sets[part] == 0
                codes = self.words.codes(each.source.labels.iloc[part][train])
                numbers, sizes = np.unique(
                    self._numbers(each.source.dataset, codes), return_counts=True
                )
                found.update(dict(zip(numbers.tolist(), sizes.tolist(), strict=True)))
        self.numbers = np.array(sorted(found), dtype=np.int64)
        return np.array([found[number] for number in self.numbers.tolist()], dtype=np.int64)

    def ranks(self, dataset: str, codes: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.numbers, self._numbers(dataset, codes))

    def _numbers(self, dataset: str, codes: np.ndarray) -> np.ndarray:
        """Dataset and labels as digits of one number."""
        number = np.full(len(codes), self.words.datasets.index(dataset), dtype=np.int64)
        for place, size in zip(self.places, self.sizes, strict=True):
            digit = codes[:, place]
            number = number * size + np.where(digit < 0, size - 1, digit)
        return number

    def write(self, path: Path, sizes: np.ndarray, first: int) -> int:
        """Where each group that has cells lies, from the position `first` on; how many groups."""
        kept = np.flatnonzero(sizes)
        stops = first + np.cumsum(sizes[kept])
        rest, columns = self.numbers[kept], {}
        for name, size in zip(reversed(self.group_by), reversed(self.sizes), strict=True):
            rest, digit = np.divmod(rest, size)
            codes = np.where(digit == size - 1, -1, digit)
            columns[name] = dictionary(codes, self.words.columns[name])
        table = pa.table(
            {"dataset": dictionary(rest, self.words.datasets)}
            | {name: columns[name] for name in self.group_by}
            | {"start": stops - sizes[kept], "stop": stops}
        )
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        return len(kept)


def dictionary(codes: np.ndarray, words: list[str]) -> pa.DictionaryArray:
    """Words by number in the smallest integers that hold them; null for -1."""
    kind = next(k for k in (np.int8, np.int16, np.int32) if len(words) <= np.iinfo(k).max)
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(kind), mask=codes < 0), pa.array(words, type=pa.string())
    )


class LabelWriter:
    """Appends cells to the file, in batches of one size, so that a position names its batch."""

    def __init__(self, path: Path, words: LabelWords, modalities: list[str]):
        self.words, self.modalities = words, modalities
        self.file = pa.OSFile(str(path), "wb")
        self.writer: pa.RecordBatchWriter | None = None
        self.waiting: list[tuple[pa.Array, np.ndarray]] = []
        self.num_waiting = 0

    def append(self, names: pa.Array, about: np.ndarray) -> None:
        """Names, and records of codes, keys and totals."""
        self.waiting.append((names, about))
        self.num_waiting += len(about)
        while self.num_waiting >= LABELS_PER_BATCH:
            self._write(LABELS_PER_BATCH)

    def close(self) -> None:
        if self.num_waiting:
            self._write(self.num_waiting)
        self.writer.close()
        self.file.close()

    def _write(self, size: int) -> None:
        names = pa.concat_arrays([names for names, _ in self.waiting])
        about = np.concatenate([about for _, about in self.waiting])
        batch = self._batch(names[:size], about[:size])
        if self.writer is None:
            self.writer = pa.ipc.new_file(self.file, batch.schema)
        self.writer.write_batch(batch)
        self.waiting = [(names[size:], about[size:])] if len(about) > size else []
        self.num_waiting = len(about) - size

    def _batch(self, names: pa.Array, about: np.ndarray) -> pa.RecordBatch:
        columns = {
            "cell": names,
            "dataset": dictionary(about["dataset"], self.words.datasets),
            "species": dictionary(about["species"], self.words.species),
            "set": dictionary(about["set"], list(SETS)),
        }
        for place, (name, words) in enumerate(self.words.columns.items()):
            columns[name] = dictionary(about["labels"][:, place], words)
        for place, modality in enumerate(self.modalities):
            columns[f"total_{modality}"] = pa.array(about["totals"][:, place])
        columns["key"] = pa.array(about["key"])
        return pa.RecordBatch.from_pydict(columns)


class LabelFile:
    """The mapped file: only the pages that are asked for are read."""

    def __init__(self, path: Path):
        self.source = pa.memory_map(str(path))
        self.reader = pa.ipc.open_file(self.source)
        self._kept: dict[str, tuple[int, pa.Array]] = {}

    def table(self) -> pa.Table:
        return self.reader.read_all()

    def take(self, positions: np.ndarray, columns: list[str] | None = None) -> pa.Table:
        """Labels of cells, in the order of their positions."""
        wanted = columns or self.reader.schema.names
        unknown = [name for name in wanted if name not in self.reader.schema.names]
        if unknown:
            raise InputError(
                f"The store has no label {listed(unknown)}; it has "
                f"{listed(self.reader.schema.names, 30)}."
            )
        positions = np.asarray(positions, dtype=np.int64)
        batches = np.unique(positions // LABELS_PER_BATCH)
        parts = [self.reader.get_batch(int(batch)).select(wanted) for batch in batches]
        places = np.searchsorted(batches, positions // LABELS_PER_BATCH)
        starts = np.append(0, np.cumsum([len(part) for part in parts])).astype(np.int64)
        if not parts:
            return self.reader.schema.empty_table().select(wanted)
        return pa.Table.from_batches(parts).take(starts[places] + positions % LABELS_PER_BATCH)

    def words(self, column: str) -> list[str]:
        """The words that a column's codes stand for."""
        if not self.reader.num_record_batches:
            return []
        return self.reader.get_batch(0).column(column).dictionary.to_pylist()

    def codes(self, column: str, start: int, stop: int) -> np.ndarray:
        """int64 codes of consecutive cells, -1 where there is no label."""
        made = np.empty(stop - start, dtype=np.int64)
        for number in range(start // LABELS_PER_BATCH, -(-stop // LABELS_PER_BATCH)):
            first = number * LABELS_PER_BATCH
            begin, end = max(start, first), min(stop, first + LABELS_PER_BATCH)
            codes = self._indices(number, column)[begin - first : end - first]
            its = codes.fill_null(-1) if codes.null_count else codes
            made[begin - start : end - start] = its.to_numpy(zero_copy_only=False)
        return made

    def _indices(self, number: int, column: str) -> pa.Array:
        """Of one batch of one column, which is kept for the next call."""
        kept = self._kept.get(column)
        if kept is None or kept[0] != number:
            kept = number, self.reader.get_batch(number).column(column).indices
            self._kept[column] = kept
        return kept[1]

    def batches(self) -> Iterator[pa.RecordBatch]:
        for number in range(self.reader.num_record_batches):
            yield self.reader.get_batch(number)
