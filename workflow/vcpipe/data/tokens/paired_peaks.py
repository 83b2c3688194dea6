"""Open peaks of cells -> tokens, and genes whose expression is asked of them (EpiFoundation).

A peak is open where its count is above zero, so values of peaks are not read.
"""

# B cells, P peaks of all of them, G genes of all of them

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.cell_keys import stream
from vcpipe.data.draws import Draw
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.asked_genes import all_genes, balanced_genes, mark_some
from vcpipe.data.tokens.packing import starts_of
from vcpipe.data.tokens.truncation import Measured

# `purpose` of cell_keys.stream.
OPEN_PEAKS = 201


@dataclass(frozen=True)
class Chromosomes:
    """Ids of chromosomes, by the ids of both vocabularies."""

    of_peaks: np.ndarray  # int32, <cls> included
    of_genes: np.ndarray  # int32


@dataclass(frozen=True)
class PairedBatch:
    """Packed: cell i holds peak_starts[i]:peak_starts[i + 1], and so on; ids ascend after <cls>."""

    peak_starts: np.ndarray  # int64 [B + 1]
    peaks: np.ndarray  # int32 [P]
    peak_chromosomes: np.ndarray  # int32 [P]
    gene_starts: np.ndarray  # int64 [B + 1]
    genes: np.ndarray  # int32 [G]
    gene_chromosomes: np.ndarray  # int32 [G]
    targets: np.ndarray  # [G], of the type of the values that were given; 0: not detected
    labels: Mapping[str, np.ndarray]  # as they were given: batch, cell_type

    def __len__(self) -> int:
        return len(self.peak_starts) - 1


def paired_batch(
    rna: Rows,
    atac: Rows,
    values: np.ndarray,
    measured: Measured,
    chromosomes: Chromosomes,
    cls_id: int,
    config: Tokenizer,
    labels: Mapping[str, np.ndarray],
    draw: Draw,
) -> PairedBatch:
    """Tokens of the peaks, and genes whose `values` are asked for; these belong to rna's entries.

    What is drawn for a cell depends on the draw and its key alone: validation keeps its epoch.
    """
    assert np.array_equal(rna.keys, atac.keys)
    peak_starts, peaks = open_peaks(atac, len(chromosomes.of_peaks), cls_id, config, draw)
    if config.rna_sampling == "balanced":
        num_genes = len(chromosomes.of_genes)
        asked = balanced_genes(rna, values, measured, num_genes, config, draw)
    else:
        asked = all_genes(rna, values, measured)
    gene_starts, genes, targets = asked
    return PairedBatch(
        *(peak_starts, peaks, _look_up(chromosomes.of_peaks, peaks)),
        *(gene_starts, genes, _look_up(chromosomes.of_genes, genes), targets, labels),
    )


def open_peaks(
    atac: Rows, num_peaks: int, cls_id: int, config: Tokenizer, draw: Draw
) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ids of <cls> and a cell's peaks; of a longer cell any that fit."""
    starts = starts_of(np.minimum(np.diff(atac.starts), config.atac_max_len - 1) + 1)
    peaks = np.empty(starts[-1], np.int32)
    marks = np.zeros(num_peaks, np.uint8)
    assert atac.ids.max(initial=0) < num_peaks
    _keep_peaks(
        *(atac.starts, atac.ids, atac.keys, cls_id, draw.seed, draw.epoch, marks, starts, peaks)
    )
    return starts, peaks


def peaks_alone(
    atac: Rows,
    chromosomes: Chromosomes,
    cls_id: int,
    pad_id: int,
    config: Tokenizer,
    draw: Draw,
) -> dict[str, np.ndarray]:
    """The arrays of padded_peaks for cells of which no gene is asked for."""
    starts, peaks = open_peaks(atac, len(chromosomes.of_peaks), cls_id, config, draw)
    columns = {
        "peaks": (peaks, pad_id),
        "peak_chromosomes": (
            _look_up(chromosomes.of_peaks, peaks),
            chromosomes.of_peaks[pad_id],
        ),
    }
    return _padded_peaks(starts, columns)


def padded_peaks(batch: PairedBatch, pad_id: int, pad_chromosome: int) -> dict[str, np.ndarray]:
    """Arrays peaks, peak_chromosomes and real (False at padding), as long as the longest cell.

    `places` of B × T are the real tokens, cell by cell from `starts` on: said here, no device must
    be asked.
    """
    columns = {
        "peaks": (batch.peaks, pad_id),
        "peak_chromosomes": (batch.peak_chromosomes, pad_chromosome),
    }
    return _padded_peaks(batch.peak_starts, columns)


def padded_genes(
    batch: PairedBatch, pad_id: int, pad_chromosome: int, pad_value
) -> dict[str, np.ndarray]:
    """Arrays genes, gene_chromosomes, targets and real, as long as the longest list."""
    columns = {
        "genes": (batch.genes, pad_id),
        "gene_chromosomes": (batch.gene_chromosomes, pad_chromosome),
        "targets": (batch.targets.astype(np.int32), pad_value),
    }
    return _padded(batch.gene_starts, columns)


def _padded_peaks(starts: np.ndarray, columns: Mapping[str, tuple]) -> dict[str, np.ndarray]:
    arrays = _padded(starts, columns)
    where = {"places": np.flatnonzero(arrays["real"]), "starts": starts.astype(np.int32)}
    return arrays | where


def _padded(starts: np.ndarray, columns: Mapping[str, tuple]) -> dict[str, np.ndarray]:
    lengths = np.diff(starts)
    longest = int(lengths.max(initial=0))
    arrays = {}
    for name, (packed, filler) in columns.items():
        arrays[name] = np.empty((len(lengths), longest), packed.dtype)
        _pad(starts, packed, packed.dtype.type(filler), arrays[name])
    return arrays | {"real": np.arange(longest) < lengths[:, None]}


@compiled
def _keep_peaks(starts, ids, keys, cls_id, seed, epoch, marks, out_starts, out) -> None:
    for cell in range(len(keys)):
        first, end, place = starts[cell], starts[cell + 1], out_starts[cell]
        out[place] = cls_id
        place += 1
        wanted = out_starts[cell + 1] - place
        if wanted == end - first:
            out[place : place + wanted] = ids[first:end]
            continue
        state = stream(seed, epoch, OPEN_PEAKS, keys[cell])
        rest = mark_some(marks, ids[first:end], end - first, wanted, state)
        for entry in range(first, end):
            if marks[ids[entry]] != rest:
                out[place] = ids[entry]
                place += 1
            marks[ids[entry]] = 0


@compiled
def _look_up(table, ids) -> np.ndarray:
    """table[ids], in a third of numpy's time."""
    found = np.empty(len(ids), table.dtype)
    for at in range(len(ids)):
        found[at] = table[np.uint64(ids[at])]
    return found


@compiled
def _pad(starts, packed, filler, out) -> None:
    for cell in range(len(out)):
        length = starts[cell + 1] - starts[cell]
        out[cell, :length] = packed[starts[cell] : starts[cell + 1]]
        out[cell, length:] = filler
