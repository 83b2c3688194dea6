"""Two panel views of cells as batches, beside a dense collate of each cell as scConcept has it.

    make bench NAME=collate_views

20,000 genes, of which a cell detects 3,481. Both begin with the detected genes of cells in memory
and end with two padded views by rank. The other one does what scConcept's collate does, step by
step: a dense row for each cell, all of its genes in a drawn order, those of the panel, the detected
ones of these sorted by count and cut. Panels are the same.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from tests.benchmarks.measuring import Row, row, run
from tests.benchmarks.token_cells import batches, read_rows, write_cells
from vcpipe.config.fitting import Fit
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.tokens import Panels
from vcpipe.data.cell_store.cells import cells_of
from vcpipe.data.draws import Draw
from vcpipe.data.order import BatchDraw
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.packing import Specials
from vcpipe.data.tokens.panels import draw_panels, panel_source
from vcpipe.data.view_batches import ViewBatches, ViewedCells

NUM_GENES, NUM_CELLS, BATCH, PASSES = 20_000, 1024, 64, 2
PANELS = Panels(panel_size_min=2000, panel_size_max=8000)
SPECIAL = Specials(cls_id=0, pad_id=1, mask_id=2, cls_value=0, pad_value=-2, mask_value=-1)
THIS = (sys.executable, "-m", "tests.benchmarks.view_batches")


def collate_views(folder: Path, repeats: int = 3) -> list[Row]:
    folder = folder / "views"
    folder.mkdir(parents=True, exist_ok=True)
    detected = write_cells(folder / "rna.npz", NUM_CELLS, NUM_GENES, 3481 / NUM_GENES)
    print(f"{NUM_CELLS} cells, rna: {detected:.0f} detected", flush=True)
    turns = [[run(*THIS, kind, folder) for kind in ("ours", "dense")] for _ in range(repeats)]
    check_views(folder)
    ours, theirs = ([turn[who]["ms"] for turn in turns] for who in (0, 1))
    unit, version = "CPU ms per cell", f"numpy {np.__version__}"
    return [row("collate_views", ours, theirs, unit, version, floor=8)]


def check_views(folder: Path) -> None:
    """Both take genes with the same counts in the same order; ties come in any order."""
    first = batches(read_rows(folder / "rna.npz", first_id=3), BATCH)[0]
    shape = (len(first), NUM_GENES + 3)
    counts = sp.csr_matrix((first.counts, first.ids, first.starts), shape).toarray()
    ours, dense = (np.load(folder / f"{kind}.npz") for kind in ("ours", "dense"))
    for view in ("first", "second"):
        found, expected = (
            np.take_along_axis(counts, its[f"{view}_genes"].astype(np.int64), axis=1)
            for its in (ours, dense)
        )
        np.testing.assert_array_equal(found, expected)
        assert (np.diff(found[:, 1:].astype(np.int64), axis=1) <= 0).all()
        for its in (ours, dense):
            cells = [set(genes[genes > 2].tolist()) for genes in its[f"{view}_genes"]]
            num_genes = (its[f"{view}_genes"] > 2).sum(axis=1)
            assert [len(genes) for genes in cells] == num_genes.tolist()
    print("collate_views: both take genes of the same counts, in the same order", flush=True)


class Labels:
    """As a store says of which dataset its cells are: all of one."""

    def labels(self, positions, columns):
        return {"dataset": self}

    def store_positions(self, positions):
        self.number = len(positions)
        return positions

    @property
    def store(self):
        return self

    def to_pylist(self):
        return ["cells"] * self.number


class InMemory:
    """A buffer that holds cells of a batch."""

    def __init__(self, rows: Rows):
        self.held, self.positions = rows, np.arange(len(rows))

    def cells(self, places):
        return cells_of(self.held), places

    def rows(self, places):
        return self.held


def our_batches():
    source = panel_source("cells", np.arange(3, NUM_GENES + 3), [], PANELS)
    settings = {"panels": PANELS.model_dump()}
    config = Pretrain(corpus="c", objective="contrastive", contrastive=settings)
    fit = Fit(normalize=None, log1p=True)
    viewed = ViewedCells(SPECIAL, fit, NUM_GENES + 3, ["cells"], [source], np.zeros(1, np.int64))
    made = ViewBatches(viewed, config, Labels())

    def batch(rows: Rows, number: int) -> dict[str, np.ndarray]:
        return made.batch(InMemory(rows), np.arange(len(rows)), BatchDraw(0, 0, number))

    return batch


def dense_batches():
    source = panel_source("cells", np.arange(3, NUM_GENES + 3), [], PANELS)
    generator, genes = np.random.default_rng(0), np.arange(NUM_GENES + 3)

    def batch(rows: Rows, number: int) -> dict[str, np.ndarray]:
        pair, made = draw_panels(source, PANELS, Draw(0, 0), number), {}
        cells = sp.csr_matrix((rows.counts, rows.ids, rows.starts), (len(rows), len(genes)))
        dense = [cells[cell].toarray()[0].astype(np.float32) for cell in range(len(rows))]
        drawn = generator.permutation(len(genes))
        dense = [(genes[drawn], counts[drawn]) for counts in dense]
        for view, panel in (("first", pair.first), ("second", pair.second)):
            on_panel = np.argsort(drawn)[panel]
            viewed = [ranked(tokens[on_panel], counts[on_panel]) for tokens, counts in dense]
            longest = max(len(tokens) for tokens, _ in viewed)
            for name, place, pad in (("genes", 0, SPECIAL.pad_id), ("values", 1, 0)):
                parts = [np.append(0, its[place]) for its in viewed]
                made[f"{view}_{name}"] = np.stack(
                    [np.pad(its, (0, longest + 1 - len(its)), constant_values=pad) for its in parts]
                )
        return made

    return batch


def ranked(tokens: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The detected genes of a view, the most expressed first."""
    detected = np.flatnonzero(counts)
    tokens, counts = tokens[detected], counts[detected]
    order = np.lexsort((tokens, -counts))[: PANELS.max_tokens - 1]
    return tokens[order].astype(np.int64), counts[order].astype(np.float32)


def main(kind: str, folder: Path) -> None:
    batch = {"ours": our_batches, "dense": dense_batches}[kind]()
    parts = batches(read_rows(folder / "rna.npz", first_id=3), BATCH)
    first = batch(parts[0], 0)
    np.savez(folder / f"{kind}.npz", **{n: its for n, its in first.items() if "genes" in n})
    before = time.process_time()
    for number, rows in enumerate(parts * PASSES):
        batch(rows, number)
    print(json.dumps({"ms": 1000 * (time.process_time() - before) / (NUM_CELLS * PASSES)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
