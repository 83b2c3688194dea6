"""Names and numbers that writing and reading a store share; README.md explains them."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

FORMAT = 5
MANIFEST = "manifest.json"
LABELS = "labels.arrow"
GROUPS = "groups.arrow"
SETS = ("train", "val", "test")
NOT_STORED = 255  # in the array that gives each cell of a source its set
GROUPED = "grouped"

# Where a block lies, and the xxh3 of its bytes.
INDEX = np.dtype(
    [("xxh3", "<u8"), ("offset", "<u4"), ("length", "<u4"), ("entries", "<u4"), ("shard", "<u2")]
)
LABELS_PER_BATCH = 2**16


@dataclass(frozen=True)
class Run:
    """Consecutive positions whose blocks hold them alone: a set, or the grouped copy."""

    name: str
    start: int
    stop: int
    first_block: int

    def as_json(self) -> dict:
        return asdict(self)


def shard_name(modality: str, number: int) -> str:
    return f"{modality}_{number:04d}.bin"


def index_path(folder: Path, modality: str) -> Path:
    return folder / f"index_{modality}.npy"


def names_path(folder: Path, modality: str, species: str) -> Path:
    return folder / f"names_{modality}_{species}.txt"


def measured_path(folder: Path, modality: str) -> Path:
    """Bits [datasets, 2, features]: measured in all parts of a dataset, and in any."""
    return folder / f"measured_{modality}.npy"


def lengths_path(folder: Path, modality: str) -> Path:
    """How many cells have 0, 1, 2, ... detected features."""
    return folder / f"lengths_{modality}.npy"
