"""Values of many cells in little memory: each cell's genes, grouped by their value.

A cell with 8,000 detected genes has a hundred or so distinct values, so its values take almost
nothing beside the two bytes for the place of each gene. They come back bit for bit.
"""

# R rows that are held, N their detected genes, S their distinct values, K known genes, T chosen

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vcpipe.data.screen import Screen
from vcpipe.data.sparse_rows import compiled

CHUNK = 2048
# Of a thousand distinct values in every cell, which is more than there are.
MOST_BYTES_OF_VALUES = 8 * 1024


@dataclass(frozen=True)
class Groups:
    """Some cells: the genes of a row are genes[starts[row] : starts[row + 1]], group by group."""

    starts: np.ndarray  # int64 [R + 1]
    genes: np.ndarray  # uint16 or int32 [N], places among the known genes
    first_value: np.ndarray  # int64 [R + 1], where a row's distinct values begin
    values: np.ndarray  # float32 [S]
    ends: np.ndarray  # int32 [S], behind the last gene of a group, counted in its row

    @property
    def num_bytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in self.__dataclass_fields__)


def groups_of(screen: Screen, columns: np.ndarray, rows: np.ndarray) -> Iterator[Groups]:
    """The log-normalised values of rows, of the genes in some columns, some cells at a time."""
    place_G = np.full(len(screen.genes), -1, dtype=np.int32)
    place_G[columns] = np.arange(len(columns))
    kind = np.uint16 if len(columns) <= 2**16 else np.int32
    for first in range(0, len(rows), CHUNK):
        sparse = screen.values(rows[first : first + CHUNK])
        num_rows, num_entries = sparse.shape[0], sparse.nnz
        genes, values = np.empty(num_entries, kind), np.empty(num_entries, np.float32)
        ends = np.empty(num_entries, dtype=np.int32)
        starts, first_value = (np.zeros(num_rows + 1, dtype=np.int64) for _ in range(2))
        bits = np.ascontiguousarray(sparse.data, dtype=np.float32).view(np.int32)
        _group(
            *(sparse.indptr, sparse.indices, bits, place_G),
            *(starts, genes, first_value, values.view(np.int32), ends),
        )
        num, num_values = starts[-1], first_value[-1]
        # Copies: what is kept must not hold the longer arrays.
        yield Groups(
            *(starts, genes[:num].copy(), first_value),
            *(values[:num_values].copy(), ends[:num_values].copy()),
        )


def joined(parts: list[Groups]) -> Groups:
    """All cells of several parts, in their order."""
    return Groups(
        _continued([part.starts for part in parts]),
        np.concatenate([part.genes for part in parts]),
        _continued([part.first_value for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.ends for part in parts]),
    )


def _continued(starts: list[np.ndarray]) -> np.ndarray:
    """Row starts of parts that follow each other."""
    sizes = [np.diff(its) for its in starts]
    return np.concatenate([[0], np.cumsum(np.concatenate(sizes))])


def most_bytes(screen: Screen, rows: np.ndarray) -> int:
    """What the groups of some cells take at most, before any of them is read."""
    num_entries = int(screen.num_detected[rows].sum())
    kind = np.uint16 if len(screen.genes) <= 2**16 else np.int32
    return num_entries * np.dtype(kind).itemsize + len(rows) * MOST_BYTES_OF_VALUES


def pick_groups(groups: Groups, rows: np.ndarray, place_K: np.ndarray, out_RT: np.ndarray) -> None:
    """Put the values of the wanted genes, place_K >= 0, into dense rows of zeros."""
    _pick(*(getattr(groups, name) for name in Groups.__dataclass_fields__), rows, place_K, out_RT)


@compiled
def _group(indptr, indices, bits, place_G, starts, genes, first_value, values, ends) -> None:
    """Values are told apart by their bits, in the order in which a row first has them."""
    longest = 1
    for row in range(len(indptr) - 1):
        longest = max(longest, indptr[row + 1] - indptr[row])
    size = 4
    while size < 2 * longest:
        size *= 2
    slots = np.full(size, -1, dtype=np.int32)  # which distinct value, by its hash
    taken = np.empty(longest, dtype=np.int32)  # the slot of each distinct value
    codes = np.empty(longest, dtype=np.int32)
    following = np.empty(longest, dtype=np.int32)
    entry = group = 0
    for row in range(len(indptr) - 1):
        num = 0
        for at in range(indptr[row], indptr[row + 1]):
            code = -1
            if place_G[indices[at]] >= 0:
                word = np.uint32(bits[at])
                slot = int((word * np.uint32(2654435769)) >> np.uint32(7)) & (size - 1)
                while slots[slot] >= 0 and values[group + slots[slot]] != bits[at]:
                    slot = (slot + 1) & (size - 1)
                if slots[slot] < 0:
                    slots[slot], taken[num] = num, slot
                    values[group + num], ends[group + num] = bits[at], 0
                    num += 1
                code = slots[slot]
                ends[group + code] += 1
            codes[at - indptr[row]] = code
        seen = 0
        for code in range(num):
            following[code] = seen
            seen += ends[group + code]
            ends[group + code] = seen
            slots[taken[code]] = -1
        for at in range(indptr[row], indptr[row + 1]):
            code = codes[at - indptr[row]]
            if code >= 0:
                genes[entry + following[code]] = place_G[indices[at]]
                following[code] += 1
        entry, group = entry + seen, group + num
        starts[row + 1], first_value[row + 1] = entry, group


@compiled
def _pick(starts, genes, first_value, values, ends, rows, place_K, out_RT) -> None:
    for at in range(len(rows)):
        row = rows[at]
        first = entry = starts[row]
        for group in range(first_value[row], first_value[row + 1]):
            value, last = values[group], first + ends[group]
            while entry < last:
                column = place_K[genes[entry]]
                if column >= 0:
                    out_RT[at, column] = value
                entry += 1
