"""Tokens of some cells, one after another without gaps, and the padded arrays that models read."""

# B cells, N tokens of all of them, T tokens of the longest cell

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vcpipe.config.vocabulary import SpecialTokens
from vcpipe.data.sparse_rows import compiled
from vcpipe.errors import InputError, listed

ABSENT = -1
# Like np.empty: where arrays that go to a device are to lie.
Empty = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Specials:
    """Ids of the tokens that are no gene, and the values that stand at them."""

    cls_id: int
    pad_id: int
    mask_id: int
    cls_value: float
    pad_value: float
    mask_value: float


def specials(ids: Mapping[str, int], config: SpecialTokens) -> Specials:
    """Look the configured special tokens up in a vocabulary."""
    named = {"cls": config.cls, "pad": config.pad, "mask": config.mask}
    # A given vocabulary may lack <mask>, as scGPT's does: then no gene can be hidden, only values.
    missing = [each.token for each in (config.cls, config.pad) if each.token not in ids]
    if missing:
        raise InputError(
            f"The vocabulary lacks {listed(missing)}; expected every token of special_tokens."
        )
    numbers = {f"{name}_id": ids.get(each.token, ABSENT) for name, each in named.items()}
    values = {f"{name}_value": float(each.value) for name, each in named.items()}
    return Specials(**numbers, **values)


@dataclass(frozen=True)
class Tokens:
    starts: np.ndarray  # int64 [B + 1]: cell i holds tokens starts[i]:starts[i + 1]
    genes: np.ndarray  # int32 [N]
    values: np.ndarray  # float32 [N]
    keys: np.ndarray  # uint64 [B]: the names of the cells

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Entries:
    """Some entries of rows, in the order in which they become tokens."""

    starts: np.ndarray  # int64 [B + 1]
    entries: np.ndarray  # int64: places in the arrays of Rows


@dataclass(frozen=True)
class Absent:
    """Undetected but measured genes that become tokens of value 0."""

    starts: np.ndarray  # int64 [B + 1]
    ids: np.ndarray  # int32


def pack(rows, kept: Entries, values_N, absent: Absent, special: Specials, prepend_cls) -> Tokens:
    """<cls>, then kept and absent genes together, by ascending id."""
    return _pack(_merge, rows, kept, values_N, absent, special, prepend_cls)


def pack_in_order(rows, kept: Entries, values_N, absent: Absent, special, prepend_cls) -> Tokens:
    """<cls>, then the kept genes as they are ordered, then the absent ones."""
    return _pack(_append, rows, kept, values_N, absent, special, prepend_cls)


def _pack(lay, rows, kept, values_N, absent, special, prepend_cls) -> Tokens:
    lengths = np.diff(kept.starts) + np.diff(absent.starts) + prepend_cls
    starts = starts_of(lengths)
    genes = np.empty(starts[-1], dtype=np.int32)
    values = np.empty(starts[-1], dtype=np.float32)
    if prepend_cls:
        genes[starts[:-1]] = special.cls_id
        values[starts[:-1]] = special.cls_value
    lay(
        *(starts[:-1] + prepend_cls, rows.ids, values_N, kept.starts, kept.entries),
        *(absent.starts, absent.ids, genes, values),
    )
    return Tokens(starts, genes, values, rows.keys)


def starts_of(lengths: np.ndarray) -> np.ndarray:
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


@compiled
def _append(begin, ids, values_N, starts, entries, absent_starts, absent, genes, values) -> None:
    for row in range(len(begin)):
        place, its = begin[row], entries[starts[row] : starts[row + 1]]
        stop = place + len(its)
        genes_T, values_T = genes[place:stop], values[place:stop]
        for kept in range(len(its)):
            genes_T[kept] = ids[np.uint64(its[kept])]
        for kept in range(len(its)):
            values_T[kept] = values_N[np.uint64(its[kept])]
        place = stop
        for other in range(absent_starts[row], absent_starts[row + 1]):
            genes[place], values[place] = absent[other], 0.0
            place += 1


@compiled
def _merge(begin, ids, values_N, starts, entries, absent_starts, absent, genes, values) -> None:
    for row in range(len(begin)):
        place, other, stop = begin[row], absent_starts[row], absent_starts[row + 1]
        for kept in range(starts[row], starts[row + 1]):
            gene = ids[entries[kept]]
            while other < stop and absent[other] < gene:
                genes[place], values[place] = absent[other], 0.0
                place, other = place + 1, other + 1
            genes[place], values[place] = gene, values_N[entries[kept]]
            place += 1
        while other < stop:
            genes[place], values[place] = absent[other], 0.0
            place, other = place + 1, other + 1


def padded(
    tokens: Tokens, pad_id: int, pad_value: float, empty: Empty = np.empty
) -> dict[str, np.ndarray]:
    """Arrays genes, values and real (False at padding), all [B, T]."""
    shape = len(tokens), int(np.diff(tokens.starts).max(initial=0))
    genes_BT = empty(shape, dtype=np.int64)
    values_BT = empty(shape, dtype=np.float32)
    real_BT = empty(shape, dtype=bool)
    fill(tokens.starts, tokens.genes, pad_id, genes_BT)
    fill(tokens.starts, tokens.values, pad_value, values_BT)
    fill(tokens.starts, np.ones(len(tokens.genes), dtype=bool), False, real_BT)
    return {"genes": genes_BT, "values": values_BT, "real": real_BT}


@compiled
def fill(starts, packed, filler, out_BT) -> None:
    """Lay each cell's part of a packed array into a row, and the filler behind it."""
    for row in range(len(starts) - 1):
        its, out = packed[starts[row] : starts[row + 1]], out_BT[row]
        for place in range(len(its)):
            out[place] = its[place]
        out[len(its) :] = filler
