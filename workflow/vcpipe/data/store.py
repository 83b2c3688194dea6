"""The cell store that training reads: flat memory-mapped arrays and a manifest.

Per cell, the detected genes only: vocabulary ids, exact counts and value bins. h5ad is for people,
the store is for machines; it never holds a cell in memory that is not asked for.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.config.preprocess import Cells
from vcpipe.data.binning import bin_cell
from vcpipe.data.screen import Screen
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError
from vcpipe.files import digest, read_json, writing

ARRAYS = {"genes": "int32", "counts": "uint32", "bins": "uint8"}
FORMAT = 1


@dataclass(frozen=True)
class CellStore:
    path: Path
    manifest: dict
    starts: np.ndarray  # [cells + 1]: cell i holds entries starts[i]:starts[i + 1]
    genes: np.ndarray  # vocabulary ids
    counts: np.ndarray
    bins: np.ndarray
    totals: np.ndarray  # counts of each cell, genes outside the vocabulary included

    def __len__(self) -> int:
        return len(self.starts) - 1

    def entries(self, cell: int) -> slice:
        return slice(self.starts[cell], self.starts[cell + 1])


def write_store(
    path: Path,
    sources: list[tuple[str, Screen, np.ndarray]],
    vocabulary: Vocabulary,
    config: Cells,
    about: dict,
    chunk: int = 2048,
) -> dict:
    """Write the chosen rows of some screens (name, screen, rows), a chunk at a time."""
    with writing(path) as folder:
        folder.mkdir()
        starts, totals, cells = [np.zeros(1, dtype=np.int64)], [], []
        with ExitStack() as stack:
            files = {
                name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in ARRAYS
            }
            for name, screen, rows in sources:
                for part, counts, kept in _chunks(
                    screen, rows, vocabulary, config.min_genes, chunk
                ):
                    lengths = np.diff(kept.indptr)
                    starts.append(starts[-1][-1] + np.cumsum(lengths, dtype=np.int64))
                    totals.append(np.asarray(counts.sum(axis=1)).ravel())
                    _append(files, kept, config.n_bins)
                    cells.append(
                        pd.DataFrame(
                            {
                                "cell": screen.cells[part],
                                "dataset": name,
                                "condition": screen.condition[part],
                                "batch": screen.batch[part],
                                "cell_type": screen.cell_type[part],
                            }
                        )
                    )
        if not cells or sum(map(len, cells)) == 0:
            raise InputError(
                f"{path}: no cell is left; expected cells with at least {config.min_genes} "
                "detected genes of the vocabulary (cells.min_genes)."
            )
        np.save(folder / "starts.npy", np.concatenate(starts))
        np.save(folder / "totals.npy", np.concatenate(totals))
        pd.concat(cells).to_csv(folder / "cells.tsv", sep="\t", index=False)
        manifest = {
            "format": FORMAT,
            "num_cells": sum(map(len, cells)),
            "num_entries": int(starts[-1][-1]),
            "cells": config.model_dump(mode="json"),
            "vocabulary_digest": vocabulary.digest,
            "datasets": {name: screen.data_digest for name, screen, _ in sources},
            **about,
        }
        manifest["data_digest"] = digest(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True))
    return manifest


def _chunks(
    screen: Screen, rows: np.ndarray, vocabulary: Vocabulary, min_genes: int, chunk: int
) -> Iterator[tuple[np.ndarray, sp.csr_matrix, sp.csr_matrix]]:
    """Rows, their counts, and the counts in vocabulary columns, of cells with enough genes."""
    ids = vocabulary.encode(screen.genes)
    known = np.flatnonzero(ids >= 0)
    known = known[np.argsort(ids[known])]
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        counts = screen.counts(part)
        kept = sp.csr_matrix(counts[:, known])
        kept.eliminate_zeros()
        kept.sort_indices()
        enough = np.diff(kept.indptr) >= min_genes
        kept = kept[enough]
        kept.indices = ids[known][kept.indices]
        yield part[enough], counts[enough], kept


def _append(files: dict, kept: sp.csr_matrix, n_bins: int) -> None:
    bins = [
        bin_cell(kept.data[start:stop], n_bins)
        for start, stop in zip(kept.indptr[:-1], kept.indptr[1:], strict=True)
    ]
    content = {"genes": kept.indices, "counts": kept.data, "bins": np.concatenate([*bins, []])}
    for name, values in content.items():
        values.astype(ARRAYS[name]).tofile(files[name])


def open_store(path: Path) -> CellStore:
    path = Path(path)
    manifest = read_json(path / "manifest.json", "the manifest that prepare_cells writes")
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{path} has store format {manifest.get('format')!r}; expected {FORMAT}. "
            "Rerun prepare_cells."
        )
    arrays = {}
    for name, dtype in ARRAYS.items():
        file = path / f"{name}.bin"
        expected = manifest["num_entries"] * np.dtype(dtype).itemsize
        if not file.exists() or file.stat().st_size != expected:
            raise InputError(f"{file} is not {expected} bytes long; rerun prepare_cells.")
        arrays[name] = np.memmap(file, dtype=dtype, mode="r")
    return CellStore(
        path, manifest, np.load(path / "starts.npy"), totals=np.load(path / "totals.npy"), **arrays
    )
