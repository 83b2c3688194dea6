"""What a back-end gives: cells by position, read together and taken apart, and their labels."""

# B cells of a batch

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vcpipe.data.cell_store.cells import Cells
from vcpipe.data.order import BatchDraw
from vcpipe.data.rows import Rows


class Buffer(Protocol):
    """Cells that were read together, as far from finished as is cheap to keep."""

    positions: np.ndarray  # int64: of the reader, in the order in which they were asked for

    def cells(self, places: np.ndarray) -> tuple[Cells, np.ndarray]:
        """Arrays that hold cells, and which of them are those at the places: nothing is copied."""
        ...

    def rows(self, places: np.ndarray) -> Rows:
        """Copies of cells by their places in `positions`; several threads ask."""
        ...


@dataclass(frozen=True)
class LabelCodes:
    """A combination of labels for each cell, as a number; -1 where one of them is missing."""

    words: Sequence[tuple[str, ...]]  # by number
    codes: Callable[[int, int], np.ndarray]  # int64, of cells from a first position to a last


class Reader(Protocol):
    """The cells that are learned from, at positions 0 to len - 1, in the order on disk.

    One that has a method order(epoch) decides by itself in which order they are seen.
    """

    block_size: int  # cells that lie together and are best read together; 1: any

    def __len__(self) -> int: ...

    def read(self, positions: np.ndarray) -> Buffer:
        """Positions in any order, also several times the same; several threads ask."""
        ...

    def label_codes(self, columns: Sequence[str]) -> LabelCodes: ...


class Batches(Protocol):
    """Cells of a reader, and how a batch is made of some of them."""

    reader: Reader

    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """Arrays by name; a function of the cells and the draw, whatever else is in the buffer."""
        ...
