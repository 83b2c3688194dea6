"""What our batches of paired cells and our panel views take, as JSON.

python -m tests.benchmarks.our_pairs memory|padded|store|views|plain_views FOLDER

memory: rows -> packed batches; padded: and arrays of the same kind as EpiFoundation's; store: from
the blocks of a store. views: two panel views of rows; plain_views: the same in numpy, densely. The
first batch goes to FOLDER/pairs_ours.npz, of views to FOLDER/views_*.npz.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from tests.benchmarks.epifoundation_peer import ATAC_MAX_LEN, BATCH, RNA_MAX_LEN
from tests.benchmarks.token_cells import read_rows
from vcpipe.config.fitting import Fit
from vcpipe.config.tokens import Panels, Tokenizer
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.draws import Draw
from vcpipe.data.normalised_values import normalised_values
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.packing import Specials, padded
from vcpipe.data.tokens.paired_peaks import (
    Chromosomes,
    padded_genes,
    padded_peaks,
    paired_batch,
)
from vcpipe.data.tokens.panel_views import two_views
from vcpipe.data.tokens.panels import PanelPair, draw_panels, panel_source
from vcpipe.data.tokens.truncation import measured_by

CONFIG = Tokenizer(
    strategy="paired_peaks", rna_max_len=RNA_MAX_LEN, atac_max_len=ATAC_MAX_LEN, n_bins=2
)
VIEWS = Panels(panel_size_min=2000, panel_size_max=8000)
SPECIAL = Specials(cls_id=0, pad_id=1, mask_id=2, cls_value=0, pad_value=-2, mask_value=-1)
LOGARITHMS = Fit(normalize=None, log1p=True)
DRAW = Draw(0, 0)
PASSES = 4  # over the cells: one takes a tenth of a second


def parts(rows: Rows) -> list[Rows]:
    """Consecutive rows as batches; all but their starts are views."""
    made = []
    for first in range(0, len(rows), BATCH):
        starts = rows.starts[first : first + BATCH + 1]
        its, cells = slice(starts[0], starts[-1]), slice(first, first + BATCH)
        made.append(
            Rows(
                starts - starts[0],
                rows.ids[its],
                rows.counts[its],
                rows.totals[cells],
                rows.keys[cells],
            )
        )
    return made


def pairs(folder: Path, which: str) -> dict:
    sizes = json.loads((folder / "sizes.json").read_text())
    chromosomes = Chromosomes(
        (np.arange(sizes["peaks"] + 1) % 22).astype(np.int32),
        (np.arange(sizes["genes"]) % 22).astype(np.int32),
    )
    genes = [np.arange(sizes["genes"])]

    def batch_of(rna: Rows, atac: Rows):
        # Two bins: a detected gene is in the second.
        values = np.ones(len(rna.ids), np.uint8)
        measured = measured_by(genes, np.zeros(len(rna), np.int64))
        cls_id = sizes["peaks"]
        return paired_batch(rna, atac, values, measured, chromosomes, cls_id, CONFIG, {}, DRAW)

    def in_memory():
        rows = [parts(read_rows(folder / f"{name}.npz")) for name in ("rna", "atac")]
        return list(zip(*rows, strict=True))

    def from_store():
        store = open_store(folder / "store")
        for number in range(store.num_blocks):
            rows = [parts(store.block(number, name)) for name in ("rna", "atac")]
            yield from zip(*rows, strict=True)

    source = in_memory() if which != "store" else from_store()
    first = batch_of(*next(iter(source)))
    peaks, genes_asked = padded_peaks(first, -1, -1), padded_genes(first, -1, -1, -2)
    real = {"real_peaks": peaks.pop("real"), "real_genes": genes_asked.pop("real")}
    np.savez(folder / f"pairs_ours_{which}.npz", **peaks, **genes_asked, **real)
    num_cells, before = 0, time.process_time()
    for _ in range(PASSES):
        for rna, atac in source if which != "store" else from_store():
            batch = batch_of(rna, atac)
            num_cells += len(batch)
            if which == "padded":
                padded_peaks(batch, -1, -1)
                padded_genes(batch, -1, -1, -2)
    return {"cpu": time.process_time() - before, "num_cells": num_cells}


def views(folder: Path, which: str) -> dict:
    num_genes = json.loads((folder / "sizes.json").read_text())["genes"] + 3
    rows = read_rows(folder / "rna.npz", first_id=3)
    source = panel_source("cells", np.arange(3, num_genes), [], VIEWS)
    made = {"views": our_views, "plain_views": plain_views}[which]
    batches = parts(rows)
    first = made(batches[0], draw_panels(source, VIEWS, DRAW, 0), num_genes)
    before = time.process_time()
    for number, batch in enumerate(batches * PASSES):
        made(batch, draw_panels(source, VIEWS, DRAW, number), num_genes)
    cpu = time.process_time() - before
    np.savez(folder / f"{which}.npz", first=first[0]["values"], second=first[1]["values"])
    return {"cpu": cpu, "num_cells": len(rows) * PASSES}


def our_views(rows: Rows, pair: PanelPair, num_genes: int):
    values = normalised_values(rows, LOGARITHMS)
    cells = np.zeros(len(rows), np.int64)
    made = two_views(rows, values, [pair], cells, num_genes, VIEWS, SPECIAL, DRAW)
    return [padded(view, SPECIAL.pad_id, SPECIAL.pad_value) for view in made]


def plain_views(rows: Rows, pair: PanelPair, num_genes: int):
    """Dense rows, a column for each gene, sorted whole: what a first version would do."""
    dense = sp.csr_matrix((rows.counts, rows.ids, rows.starts), (len(rows), num_genes)).toarray()
    made = []
    generator = np.random.default_rng(0)
    for panel in (pair.first, pair.second):
        counts = dense[:, panel].astype(np.float32)
        order = np.argsort(-(counts + generator.random(counts.shape, np.float32) / 2), axis=1)
        order = order[:, : VIEWS.max_tokens - 1]
        counts = np.take_along_axis(counts, order, axis=1)
        real = counts > 0
        longest = real.sum(axis=1).max()
        genes = np.where(real, panel[order], SPECIAL.pad_id)[:, :longest]
        values = np.where(real, np.log1p(counts), SPECIAL.pad_value)[:, :longest]
        made.append(
            {
                "genes": np.insert(genes.astype(np.int64), 0, SPECIAL.cls_id, axis=1),
                "values": np.insert(values, 0, SPECIAL.cls_value, axis=1),
                "real": np.insert(real[:, :longest], 0, True, axis=1),
            }
        )
    return made


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    print(json.dumps((views if "views" in task else pairs)(folder, task)))
