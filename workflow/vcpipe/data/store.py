"""The cell store that training reads: flat memory-mapped arrays and a manifest.

Per cell, the detected genes only: vocabulary ids, exact counts and value bins. h5ad is for people,
the store is for machines; it never holds a cell in memory that is not asked for.
"""

import hashlib
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
from vcpipe.data.screen import CONTROL, Screen
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError
from vcpipe.files import digest, read_json, writing

ARRAYS = {"genes": "int32", "counts": "uint32", "bins": "uint8"}
FORMAT = 3
LABELS = ("condition", "cell_type", "batch")  # what a split may hold out by


@dataclass(frozen=True)
class CellStore:
    path: Path
    manifest: dict
    starts: np.ndarray  # [cells + 1]: cell i holds entries starts[i]:starts[i + 1]
    genes: np.ndarray  # vocabulary ids
    counts: np.ndarray
    bins: np.ndarray
    totals: np.ndarray  # counts of each cell, genes outside the vocabulary included
    source: np.ndarray  # of each cell: which dataset it comes from
    measured: list[np.ndarray]  # of each dataset: the ids of the genes that it measured

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
        table = pd.concat(cells)
        table.to_csv(folder / "cells.tsv", sep="\t", index=False)
        names = [name for name, _, _ in sources]
        source = np.array([names.index(name) for name in table["dataset"]], dtype=np.uint16)
        np.save(folder / "source.npy", source)
        for number, (_, screen, _) in enumerate(sources):
            ids = vocabulary.encode(screen.genes)
            np.save(folder / f"measured_{number}.npy", np.sort(ids[ids >= 0]))
        manifest = {
            "format": FORMAT,
            "num_cells": len(table),
            "num_cells_left_out": sum(len(rows) for _, _, rows in sources) - len(table),
            "cells_digest": hashlib.sha256((folder / "cells.tsv").read_bytes()).hexdigest()[:16],
            "target_sum": _target_sum(sources),
            "seen": {screen.data_digest: _seen(screen, rows) for _, screen, rows in sources},
            "num_entries": int(starts[-1][-1]),
            "cells": config.model_dump(mode="json"),
            "vocabulary_digest": vocabulary.digest,
            "datasets": {name: screen.data_digest for name, screen, _ in sources},
            **about,
        }
        manifest["data_digest"] = digest(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True))
    return manifest


def _seen(screen: Screen, rows: np.ndarray) -> dict:
    """What of a screen is in the store: labels, and which of its control cells."""
    labels = {label: sorted(set(getattr(screen, label)[rows])) for label in LABELS}
    is_seen = np.isin(np.flatnonzero(screen.condition == CONTROL), rows)
    # A bit each, in the order of rows, which data_digest holds fast.
    return {**labels, "controls": np.packbits(is_seen).tobytes().hex()}


def seen_controls(seen: dict, screen: Screen) -> np.ndarray:
    """Rows of the control cells of a screen that are in a store."""
    rows = np.flatnonzero(screen.condition == CONTROL)
    bits = np.frombuffer(bytes.fromhex(seen["controls"]), dtype=np.uint8)
    return rows[np.unpackbits(bits, count=len(rows)).astype(bool)]


def _target_sum(sources: list[tuple[str, Screen, np.ndarray]]) -> float:
    """Counts per cell after normalisation, which all screens must share."""
    sums = {name: screen.target_sum for name, screen, _ in sources}
    if len(set(sums.values())) > 1:
        raise InputError(
            f"The screens were normalised to different sums ({sums}); expected one "
            "gears.normalisation.target_sum. Convert them again."
        )
    return next(iter(sums.values()))


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
        path,
        manifest,
        starts=np.load(path / "starts.npy"),
        totals=np.load(path / "totals.npy"),
        source=np.load(path / "source.npy"),
        measured=[
            np.load(path / f"measured_{number}.npy") for number in range(len(manifest["datasets"]))
        ],
        **arrays,
    )
