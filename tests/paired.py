"""Genes and peaks of the same simulated cells on their way to training, in one call."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from tests.memory_source import MemorySource
from tests.prepared import Prepared
from vcpipe.config.cell_store import CellStore as StoreSettings
from vcpipe.config.fitting import Filters, Fit
from vcpipe.config.preprocess import Fitting
from vcpipe.config.vocabulary import Vocabulary
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.cell_store.writing import write_store
from vcpipe.data.corpus import Corpus
from vcpipe.data.corpus_names import Names
from vcpipe.data.corpus_to_store import to_store
from vcpipe.data.fitted_corpus import fit_corpus
from vcpipe.data.vocabulary_building import build_vocabularies

NUM_CELLS, NUM_GENES, PEAKS_OF_GENE = 96, 24, 2
GENES = [f"GENE{number:02d}" for number in range(NUM_GENES)]
PEAKS = [
    f"chr{1 + gene % 3}:{1000 * gene + 100 * peak}-{1000 * gene + 100 * peak + 50}"
    for gene in range(NUM_GENES)
    for peak in range(PEAKS_OF_GENE)
]


def paired_sources() -> list[MemorySource]:
    """Two datasets; a gene is expressed where its peaks are open, which differs by cell type.

    The second did not measure the last four genes, and some of its cells have no type.
    """
    generator = np.random.default_rng(7)
    cell_type = np.arange(NUM_CELLS) % 3
    open_CG = generator.random((3, NUM_GENES)) < 0.5
    open_CG = open_CG[cell_type] ^ (generator.random((NUM_CELLS, NUM_GENES)) < 0.1)
    rna = open_CG * (1 + generator.poisson(3.0, open_CG.shape))
    atac = np.repeat(open_CG, PEAKS_OF_GENE, axis=1) * generator.integers(1, 3, (1, len(PEAKS)))
    # A gene that is always on and one that never is, so that no cell is empty.
    rna[:, 0], atac[:, :PEAKS_OF_GENE], rna[:, 1] = 5, 1, 0
    made, half = [], NUM_CELLS // 2
    for name, rows, num_genes in (
        ("one", np.arange(half), NUM_GENES),
        ("two", np.arange(half, NUM_CELLS), NUM_GENES - 4),
    ):
        types = [f"type{cell_type[row]}" for row in rows]
        if name == "two":
            types[:5] = [None] * 5
        labels = {"batch": [f"b{row % 2}" for row in rows], "cell_type": types}
        made.append(
            MemorySource(
                name,
                [f"cell{row:03d}" for row in rows],
                {
                    "rna": sp.csr_matrix(rna[rows][:, :num_genes]),
                    "atac": sp.csr_matrix(atac[rows]),
                },
                pd.DataFrame({key: pd.Categorical(its) for key, its in labels.items()}),
                {"rna": GENES[:num_genes], "atac": PEAKS},
            )
        )
    return made


def prepare_pairs(folder: Path, num_hvgs: int | None = None, **store) -> Prepared:
    folder.mkdir(parents=True, exist_ok=True)
    # Nobody knows the chromosome of the third gene.
    places = {gene: f"chr{1 + n % 3}" for n, gene in enumerate(GENES) if n != 2}
    (folder / "gene2chr.json").write_text(json.dumps(places))
    settings = Vocabulary(gene_chromosomes=str(folder / "gene2chr.json"))
    sources = paired_sources()
    sets = [np.zeros(len(source), dtype=np.uint8) for source in sources]
    corpus = Corpus(sources, sets, {}, True)
    names = Names(build_vocabularies(corpus.sources, settings), settings)
    hvgs = {"hvg_selection": num_hvgs, "hvg_batch_key": None} if num_hvgs else {}
    fitting = Fitting(
        filters=Filters(min_genes=1),
        fit=Fit(min_cells=0, min_peak_cells=0, **hvgs),
    )
    record = fit_corpus(corpus, names, fitting).record
    parts, vocabularies, coverage = to_store(corpus, names, record)
    about = {
        "seen": {},
        "held_out": True,
        "vocabulary_digest": names.vocabularies.digest,
        "record_digest": record.digest,
        "coverage": coverage,
    }
    settings = StoreSettings(**({"block_size": 16} | store))
    write_store(folder / "store", parts, settings, about, vocabularies=vocabularies)
    return Prepared(open_store(folder / "store"), names, record)
