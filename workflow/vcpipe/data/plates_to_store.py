"""Plates as our store: the same cells and genes, shuffled on disk once."""

from pathlib import Path

import numpy as np

from vcpipe.config.atlases import Atlas, Matrix
from vcpipe.config.cell_store import CellStore
from vcpipe.config.fitting import Filters
from vcpipe.data.cell_store.layout import NOT_STORED
from vcpipe.data.cell_store.scattering import SourceToStore, StoreVocabulary
from vcpipe.data.cell_store.writing import write_store
from vcpipe.data.plates import open_plates, origin_of
from vcpipe.data.sources.atlas import open_atlas
from vcpipe.files import digest

EVERY_CELL = Filters(min_genes=0, min_counts=0, min_peaks=0)


def write_plates_as_store(
    path: Path,
    plates: dict[int, Path],
    columns: list[str],
    max_cells: int | None,
    settings: CellStore,
    threads: int = 1,
) -> dict:
    """Write the first cells of plates with some of their labels; the store's manifest.

    A gene's id is its place on the plates, as it is for who reads the plates themselves.
    """
    genes = open_plates(list(plates.values())).genes.astype(object)
    ids = np.arange(len(genes), dtype=np.int32)
    sources, left = [], max_cells
    for number, file in plates.items():
        atlas = Atlas(rna=Matrix(paths=[str(file)]), obs_columns=columns)
        # Names of cells are a plate's own; of two plates they may be the same.
        (source,) = open_atlas(f"plate{number}", atlas)
        sets = np.zeros(len(source), dtype=np.uint8)
        if left is not None:
            sets[left:] = NOT_STORED
            left = max(left - len(source), 0)
        sources.append(SourceToStore(source, {"rna": ids}, sets, EVERY_CELL, {"rna": ids}))
    vocabulary = StoreVocabulary(genes, digest(genes.tolist()))
    about = {
        "plates": {str(number): file.name for number, file in plates.items()},
        **origin_of(list(plates.values()), max_cells),
    }
    return write_store(
        path, sources, settings, about, threads, vocabularies={"rna": {"human": vocabulary}}
    )
