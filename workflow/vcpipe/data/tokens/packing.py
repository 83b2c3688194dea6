"""Tokens of some cells, one after another without gaps, and the padded arrays that models read."""

# B cells, N tokens of all of them, T tokens of the longest cell

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vcpipe.config.vocabulary import SpecialTokens
from vcpipe.data.sparse_rows import compiled
from vcpipe.errors import InputError, listed

ABSENT = -1
# Like np.empty: where arrays that go to a device are to lie.
Empty = Callable[..., np.ndarray]


class Specials(NamedTuple):
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


def starts_of(lengths: np.ndarray) -> np.ndarray:
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def padded(
    tokens: Tokens, pad_id: int, pad_value: float, empty: Empty = np.empty
) -> dict[str, np.ndarray]:
    """Arrays genes, values and real (False at padding), all [B, T]."""
    shape = len(tokens), int(np.diff(tokens.starts).max(initial=0))
    genes_BT = empty(shape, dtype=np.int32)
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
