"""Batches of paired RNA and ATAC beside EpiFoundation's loader, and panel views beside numpy.

EPIFOUNDATION names a checkout, whose dataset runs in our own Python; without it the benchmark says
so and is left out. 20,000 genes and 150,000 peaks, of which a cell detects 3,481 and 6,941.

    git clone https://github.com/UCSC-VLAA/EpiFoundation work/EpiFoundation
    make bench NAME=paired_batches EPIFOUNDATION=work/EpiFoundation
"""

import json
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from tests.benchmarks.epifoundation_peer import ATAC_MAX_LEN, RNA_MAX_LEN
from tests.benchmarks.measuring import Row, checkout_of, revision, row, run
from tests.benchmarks.token_cells import write_cells
from tests.data.cell_store.memory_source import MemorySource, stored, vocabularies_of

OURS = (sys.executable, "-m", "tests.benchmarks.our_pairs")
SIZES = {"genes": 20_000, "peaks": 150_000}
DETECTED = {"rna": 3481 / 20_000, "atac": 6941 / 150_000}
UNIT = "CPU ms per cell"


def paired(folder: Path, num_cells: int = 608, repeats: int = 3) -> list[Row]:
    """paired_batches from rows in memory, _padded as the peer's arrays are, _store from disk.

    The peer reads each cell from its files (backed), so _store is the row of like with like.
    """
    checkout = checkout_of("EPIFOUNDATION", "paired_batches")
    if not checkout:
        return []
    folder = folder / "pairs"
    write_pairs(folder, num_cells)
    program = ("-W", "ignore", "tests/benchmarks/epifoundation_peer.py", checkout, folder)
    kinds = {"paired_batches": "memory", "paired_batches_padded": "padded"}
    kinds["paired_batches_store"] = "store"
    turns = [
        {kind: run(*OURS, kind, folder) for kind in kinds.values()}
        | {"peer": run(sys.executable, *program)}
        for _ in range(repeats)
    ]
    check_pairs(folder)
    theirs = [per_cell(turn["peer"]) for turn in turns]
    version = f"EpiFoundation {revision(checkout)}"
    return [
        row(name, [per_cell(turn[kind]) for turn in turns], theirs, UNIT, version, floor=50)
        for name, kind in kinds.items()
    ]


def panel_views(folder: Path, num_cells: int = 608, repeats: int = 3) -> list[Row]:
    """Rows -> two padded views of 1,000 tokens, beside dense arrays in numpy."""
    folder = folder / "pairs"
    write_pairs(folder, num_cells)
    turns = [
        [run(*OURS, kind, folder) for kind in ("views", "plain_views")] for _ in range(repeats)
    ]
    ours, plain = (np.load(folder / f"{kind}.npz") for kind in ("views", "plain_views"))
    for view in ("first", "second"):
        np.testing.assert_allclose(ours[view], plain[view], rtol=1e-6)
    print("panel_views: values of both views are the same", flush=True)
    ours, theirs = ([per_cell(turn[who]) for turn in turns] for who in (0, 1))
    return [row("panel_views", ours, theirs, UNIT, f"numpy {np.__version__}", floor=8)]


def per_cell(found: dict) -> float:
    return 1000 * found["cpu"] / found["num_cells"]


def write_pairs(folder: Path, num_cells: int) -> None:
    """The same cells as CSR, as EpiFoundation's files, and as a store in the order of the cells."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sizes.json").write_text(json.dumps(SIZES))
    chromosomes = [f"chr{number}" for number in range(1, 23)]
    genes = [f"G{number:05d}" for number in range(SIZES["genes"])]
    at = np.arange(SIZES["peaks"])
    peaks = [f"chr{place % 22 + 1}-{place * 900}-{place * 900 + 500}" for place in at]
    names = {"genes": genes, "peaks": peaks, "chromosomes": chromosomes}
    (folder / "pairs.json").write_text(json.dumps(names))
    of_genes = {gene: chromosomes[place % 22] for place, gene in enumerate(genes)}
    (folder / "gene2chr.json").write_text(json.dumps(of_genes))
    cells = np.array([f"cell{number:05d}" for number in range(num_cells)])
    types = np.where(np.arange(num_cells) % 2, "B", "T")
    obs = pd.DataFrame({"annot": types, "batch": "b0"}, index=cells)
    counts = {}
    for modality, features in (("rna", genes), ("atac", peaks)):
        detected = write_cells(
            folder / f"{modality}.npz", num_cells, len(features), DETECTED[modality]
        )
        print(f"{num_cells} cells, {modality}: {detected:.0f} detected", flush=True)
        counts[modality] = sp.load_npz(folder / f"{modality}.npz")
        # Its preparation leaves bins in X: of two bins, 1 where a gene is detected.
        binned = counts[modality].copy()
        binned.data[:] = 1
        file = ad.AnnData(binned, obs, pd.DataFrame(index=features))
        file.write_h5ad(folder / f"{modality}.h5ad")
    known = vocabularies_of(rna=SIZES["genes"], atac=SIZES["peaks"])
    features = {name: known[name]["human"].names for name in counts}
    labels = pd.DataFrame({"cell_type": pd.Categorical(types)})
    stored(folder / "store", [MemorySource("pairs", cells, counts, features, labels)], known)


def check_pairs(folder: Path) -> None:
    """Both give a cell the same peaks and as many genes; all values asked for are right."""
    ours, its = np.load(folder / "pairs_ours_memory.npz"), np.load(folder / "pairs_peer.npz")
    rna, atac = (sp.load_npz(folder / f"{name}.npz") for name in ("rna", "atac"))
    for cell in range(len(its["atac_ids"])):
        peaks = ours["peaks"][cell][ours["real_peaks"][cell]]
        # Its two special tokens come first; ours, <cls>, is the last of the vocabulary.
        its_peaks = its["atac_ids"][cell][its["atac_ids"][cell] > 1] - 2
        assert peaks[0] == SIZES["peaks"]
        if atac[cell].nnz < ATAC_MAX_LEN:
            assert set(peaks[1:]) == set(its_peaks) == set(atac[cell].indices)
        else:
            assert len(peaks) - 1 == len(its_peaks) == ATAC_MAX_LEN - 1
        asked = ours["genes"][cell][ours["real_genes"][cell]]
        targets = ours["targets"][cell][ours["real_genes"][cell]]
        its_asked = its["rna_ids"][cell][its["rna_values"][cell] >= 0] - 2
        its_targets = its["rna_values"][cell][its["rna_values"][cell] >= 0]
        assert len(asked) == len(its_asked) == min(RNA_MAX_LEN, 2 * rna[cell].nnz)
        assert 2 * targets.sum() == 2 * its_targets.sum() == len(asked)
        for genes, values in ((asked, targets), (its_asked, its_targets)):
            assert np.array_equal(values > 0, np.isin(genes, rna[cell].indices))
    print(f"paired_batches: peaks and values of {cell + 1} cells are the same", flush=True)
