"""Cells that a batch reads by itself, by their positions: those of a screen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vcpipe.data.loading.reader import LabelCodes
from vcpipe.errors import InputError, listed


@dataclass(frozen=True)
class PositionBuffer:
    """Nothing is read ahead."""

    positions: np.ndarray


class PositionReader:
    """`labels` of each cell, by column."""

    block_size = 1

    def __init__(self, num_cells: int, labels: Mapping[str, np.ndarray]):
        self.num_cells, self.labels = num_cells, labels

    def __len__(self) -> int:
        return self.num_cells

    def read(self, positions: np.ndarray) -> PositionBuffer:
        return PositionBuffer(np.asarray(positions, dtype=np.int64))

    def label_codes(self, columns: Sequence[str]) -> LabelCodes:
        unknown = [name for name in columns if name not in self.labels]
        if unknown:
            raise InputError(
                f"loading.weight_by names {listed(unknown)}; the labels of these cells are "
                f"{listed(sorted(self.labels))}."
            )
        its = np.array([self.labels[name] for name in columns], dtype=str)
        words, codes = np.unique(its, axis=1, return_inverse=True)
        codes = codes.ravel()
        return LabelCodes(
            [tuple(word) for word in words.T.tolist()], lambda start, stop: codes[start:stop]
        )
