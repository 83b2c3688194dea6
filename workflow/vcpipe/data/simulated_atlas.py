"""Cells without perturbations, of genes and of the open chromatin beside them.

Cell types differ in the level of genes, and programs move genes of every cell up and down together.
A peak near a gene is open where the gene is expressed, so that peaks tell what genes do; distal
peaks tell nothing. Types and programs are those of the seed: species that are simulated with one
seed have the same, in orthologous genes, each with levels of its own.
"""

# C cells of a block, G genes, P peaks, K cell types, M programs, B batches

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.config.atlases import SimulatedAtlas
from vcpipe.config.reading import settings
from vcpipe.data.simulation import gene_symbols
from vcpipe.files import writing

BLOCK = 256  # one generator draws this many cells, so that large atlases need little memory
COMMON, SPECIES, CELLS, BLOCKS = 0, 1, 2, 3  # what the seed is spawned for

EXPRESSION_SD = 1.0  # of the genes' log mean counts
SPECIES_SD = 0.3  # of the log level of a gene in one species by that in another
LIBRARY_SD = 0.3  # of the cells' log library size
PEAK_SD = 0.7  # of the peaks' log mean counts
MARKING = 0.3  # share of the genes that mark a cell type
NEAR = 0.75  # share of the peaks that lie near a gene

GENE_DISTANCE = 100_000  # bases from one gene to the next
DISTAL = 50_000  # where distal peaks begin, from the gene before them
PEAK_DISTANCE, PEAK_WIDTH = 1000, 500


@dataclass(frozen=True)
class AtlasPlan:
    """All that is decided before a cell is counted."""

    config: SimulatedAtlas
    genes: np.ndarray  # str
    peaks: np.ndarray  # str, chr1:1000-1500
    chromosome_G: np.ndarray  # str
    gene_P: np.ndarray  # the gene that a peak follows; -1 of distal ones
    obs: pd.DataFrame
    log_gene_G: np.ndarray
    log_peak_P: np.ndarray
    log_type_KG: np.ndarray
    loading_MG: np.ndarray  # how far a gene follows a program; most follow one
    log_batch_BG: np.ndarray
    species_key: int


def plan_atlas(config: SimulatedAtlas, species: str) -> AtlasPlan:
    """Draw types, programs, places and labels; the settings and the species decide all of it."""
    common, num_genes = _generator(config.seed, COMMON), config.num_genes
    log_gene_G = common.normal(0, EXPRESSION_SD, num_genes)
    shape = (config.num_cell_types, num_genes)
    log_type_KG = common.normal(0, config.type_strength, shape) * (common.random(shape) < MARKING)
    program_G = common.integers(0, config.num_programs, num_genes)
    loading_MG = np.zeros((config.num_programs, num_genes))
    loading_MG[program_G, np.arange(num_genes)] = common.uniform(0.5, 1.0, num_genes)

    key = zlib.crc32(species.encode())
    own = _generator(config.seed, SPECIES, key)
    log_gene_G = log_gene_G + own.normal(0, SPECIES_SD, num_genes)
    chromosome_G = np.array(
        [f"chr{1 + number}" for number in own.integers(0, config.num_chromosomes, num_genes)]
    )
    peaks, gene_P = peaks_beside_genes(config, chromosome_G, own)
    shape = (config.num_batches, num_genes)
    return AtlasPlan(
        config=config,
        genes=np.array([spelt(name, species) for name in gene_symbols(num_genes)]),
        peaks=peaks,
        chromosome_G=chromosome_G,
        gene_P=gene_P,
        obs=draw_labels(config, species, _generator(config.seed, CELLS, key)),
        log_gene_G=log_gene_G,
        log_peak_P=own.normal(0, PEAK_SD, config.num_peaks),
        log_type_KG=log_type_KG,
        loading_MG=loading_MG,
        log_batch_BG=own.normal(0, config.batch_strength, shape),
        species_key=key,
    )


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def spelt(symbol: str, species: str) -> str:
    """A gene's symbol in a species: ACTB in humans is Actb in the mouse and others."""
    return symbol if species in ("human", "hsapiens", "homo_sapiens") else symbol.capitalize()


def peaks_beside_genes(
    config: SimulatedAtlas, chromosome_G: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Names of peaks, and the gene that each one follows; genes lie evenly on chromosomes."""
    num_near = round(NEAR * config.num_peaks)
    # Every gene has its turn before one gets another peak.
    turns = -(-config.num_peaks // config.num_genes)
    order = [generator.permutation(config.num_genes) for _ in range(turns)]
    beside_P = np.array(order, dtype=int).ravel()[: config.num_peaks]
    place = pd.DataFrame({"gene": beside_P, "is_near": np.arange(config.num_peaks) < num_near})
    rank_G = pd.Series(chromosome_G).groupby(chromosome_G).cumcount().to_numpy()
    start = (1 + rank_G[beside_P]) * GENE_DISTANCE + np.where(place["is_near"], 0, DISTAL)
    start += (1 + place.groupby(["gene", "is_near"]).cumcount().to_numpy()) * PEAK_DISTANCE
    names = [
        f"{chromosome}:{first}-{first + PEAK_WIDTH}"
        for chromosome, first in zip(chromosome_G[beside_P], start, strict=True)
    ]
    return np.array(names, dtype=str), np.where(place["is_near"], beside_P, -1)


def draw_labels(
    config: SimulatedAtlas, species: str, generator: np.random.Generator
) -> pd.DataFrame:
    """Batch and cell type of every cell."""
    numbers = {
        "batch": generator.integers(0, config.num_batches, config.num_cells),
        "cell_type": generator.integers(0, config.num_cell_types, config.num_cells),
    }
    called = {
        "batch": [f"{species}_batch_{n}" for n in range(1, config.num_batches + 1)],
        "cell_type": [f"type_{n}" for n in range(1, config.num_cell_types + 1)],
    }
    return pd.DataFrame(
        {label: pd.Categorical.from_codes(its, called[label]) for label, its in numbers.items()},
        index=[f"{species}_cell{number:07d}" for number in range(config.num_cells)],
    )


def draw_counts(plan: AtlasPlan, block: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Genes and peaks of one block of cells, with a generator of its own."""
    config = plan.config
    generator = _generator(config.seed, BLOCKS, plan.species_key, block)
    rows = slice(block * BLOCK, (block + 1) * BLOCK)
    type_C = plan.obs["cell_type"].cat.codes.to_numpy()[rows]
    batch_C = plan.obs["batch"].cat.codes.to_numpy()[rows]
    activity_CM = generator.normal(0, config.program_variation, (len(type_C), config.num_programs))
    change_CG = plan.log_type_KG[type_C] + activity_CM @ plan.loading_MG

    log_mean_CG = plan.log_gene_G + change_CG + plan.log_batch_BG[batch_C]
    mean_CG = _to_depth(log_mean_CG, config.depth, generator)
    noise_CG = generator.standard_gamma(1 / config.dispersion, mean_CG.shape) * config.dispersion
    genes_CG = generator.poisson(mean_CG * noise_CG)

    is_near_P = plan.gene_P >= 0
    peaks_CP = np.tile(plan.log_peak_P, (len(type_C), 1))
    peaks_CP[:, is_near_P] += change_CG[:, plan.gene_P[is_near_P]]
    if config.num_peaks:
        peaks_CP = generator.poisson(_to_depth(peaks_CP, config.peak_depth, generator))
    return sp.csr_matrix(genes_CG, dtype=np.float32), sp.csr_matrix(peaks_CP, dtype=np.float32)


def _to_depth(log_mean: np.ndarray, depth: float, generator: np.random.Generator) -> np.ndarray:
    """Means that sum up to the depth in the average cell."""
    mean = np.exp(log_mean)
    mean *= depth / mean.sum(axis=1, keepdims=True)
    return mean * np.exp(generator.normal(-(LIBRARY_SD**2) / 2, LIBRARY_SD, (len(mean), 1)))


def _all_counts(plan: AtlasPlan) -> Iterator[sp.csr_matrix]:
    """All genes, and all peaks."""
    blocks = [draw_counts(plan, block) for block in range(-(-plan.config.num_cells // BLOCK))]
    return (sp.vstack(parts, format="csr") for parts in zip(*blocks, strict=True))


def write_atlas(folder: Path, plan: AtlasPlan) -> None:
    """Write rna.h5ad, atac.h5ad where there are peaks, and gene_chromosomes.tsv into a folder."""
    names = {"rna": plan.genes, "atac": plan.peaks}
    about = {"simulation": settings(plan.config)}
    for (modality, features), counts in zip(names.items(), _all_counts(plan), strict=True):
        if not len(features):
            continue
        cells = ad.AnnData(counts, plan.obs, pd.DataFrame(index=features), uns=about)
        cells.write_h5ad(folder / f"{modality}.h5ad", compression="gzip")
    table = pd.DataFrame({"gene": plan.genes, "chromosome": plan.chromosome_G})
    with writing(folder / "gene_chromosomes.tsv") as partial:
        table.to_csv(partial, sep="\t", index=False)
