"""A small Tahoe-100M: plates of many cell lines under drugs, whose cells lie sorted by drug.

Cell lines differ much, drugs little, and drugs of one mechanism are alike. Who reads such a plate
from its start to its end sees one drug after the other, which is what loaders are compared by.
"""

# C cells of a block, G genes, L cell lines, D drugs

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.config.loader import SimulatedPlates
from vcpipe.config.reading import settings
from vcpipe.data.hdf5 import writing_hdf5

CONTROL = "DMSO_TF"  # Tahoe's name of its vehicle control
UNCLEAR = "unclear"  # its mechanism, as of all drugs that nobody has explained
BROAD = ("inhibitor/antagonist", "activator/agonist", "other")

# One generator draws this many rows, so the counts do not depend on how many are written at once.
BLOCK = 256
PLAN, PLATES, BLOCKS = 0, 1, 2  # what the seed is spawned for

EXPRESSION_SD = 1.2  # of the genes' log mean counts
LIBRARY_SD = 0.3  # of the cells' log library size
AFFECTED = 0.2  # share of the genes that a drug or a mechanism changes


@dataclass(frozen=True)
class PlatesPlan:
    """All that is decided before a cell is counted; no array has cells × genes."""

    config: SimulatedPlates
    genes: np.ndarray  # str
    lines: np.ndarray  # str
    drugs: np.ndarray  # str; the control stands first
    moa_fine_D: np.ndarray  # str
    moa_broad_D: np.ndarray  # str
    plates_D: list[np.ndarray]  # drugs of each plate, ascending
    share_LD: np.ndarray  # relative number of cells
    log_mean_G: np.ndarray
    log_line_LG: np.ndarray
    log_drug_DG: np.ndarray
    log_plate_PG: np.ndarray


def plan_plates(config: SimulatedPlates) -> PlatesPlan:
    """Draw genes, effects and the drugs of plates; the settings' seed decides all of it."""
    generator = _generator(config.seed, PLAN)
    log_mean_G = generator.normal(0, EXPRESSION_SD, config.num_genes)
    log_mean_G += np.log(config.depth) - np.log(np.exp(log_mean_G).sum())
    lines = np.array([f"CVCL_{number:04d}" for number in range(1, config.num_cell_lines + 1)])
    drugs = np.array([CONTROL, *(f"drug_{n:03d}" for n in range(1, config.num_drugs))])
    moas = np.array([UNCLEAR, *(f"target {n:02d} inhibitor" for n in range(1, config.num_moas))])
    # Every mechanism has a drug or more; the control's is unclear.
    of_drug_D = np.append(0, 1 + np.arange(config.num_drugs - 1) % (config.num_moas - 1))
    broad = np.array([UNCLEAR, *(BROAD[n % len(BROAD)] for n in range(config.num_moas - 1))])
    shape = (config.num_cell_lines, config.num_drugs)
    return PlatesPlan(
        config=config,
        genes=np.array([f"SIM{number:05d}" for number in range(1, config.num_genes + 1)]),
        lines=lines,
        drugs=drugs,
        moa_fine_D=moas[of_drug_D],
        moa_broad_D=broad[of_drug_D],
        plates_D=deal_drugs(config),
        share_LD=np.exp(generator.uniform(0, np.log(config.skew), shape)),
        log_mean_G=log_mean_G,
        log_line_LG=generator.normal(0, config.line_strength, (len(lines), config.num_genes)),
        log_drug_DG=draw_drug_effects(config, of_drug_D, generator),
        log_plate_PG=generator.normal(
            0, config.batch_strength, (config.num_plates, config.num_genes)
        ),
    )


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def deal_drugs(config: SimulatedPlates) -> list[np.ndarray]:
    """Drugs of each plate: the common ones, and of the others one plate's; the last repeat all."""
    others = np.arange(config.common_drugs, config.num_drugs)
    common = np.arange(config.common_drugs)
    own = np.array_split(others, config.num_plates - config.repeated_plates)
    dealt = [np.concatenate([common, its]) for its in own]
    return dealt + [np.arange(config.num_drugs)] * config.repeated_plates


def draw_drug_effects(
    config: SimulatedPlates, of_drug_D: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Log effects, [drugs, genes]: partly the mechanism's, partly the drug's own; controls none."""
    shape = (config.num_moas, config.num_genes)
    moa_MG = generator.normal(0, 1, shape) * (generator.random(shape) < AFFECTED)
    shape = (config.num_drugs, config.num_genes)
    own_DG = generator.normal(0, 1, shape) * (generator.random(shape) < AFFECTED)
    effect_DG = np.sqrt(config.moa_share) * moa_MG[of_drug_D]
    effect_DG += np.sqrt(1 - config.moa_share) * own_DG
    effect_DG[0] = 0
    return config.drug_strength * effect_DG


def draw_cells(plan: PlatesPlan, plate: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell line and drug of each cell of a plate (counted from 1), sorted by drug."""
    config = plan.config
    generator = _generator(config.seed, PLATES, plate)
    drugs = plan.plates_D[plate - 1]
    share_LD = plan.share_LD[:, drugs]
    drawn = generator.choice(
        share_LD.size, config.cells_per_plate, p=(share_LD / share_LD.sum()).ravel()
    )
    line_C, place_C = np.unravel_index(drawn, share_LD.shape)
    # The wells of a plate are in no order that means something.
    rank_D = generator.permutation(len(drugs))
    order = np.argsort(rank_D[place_C], kind="stable")
    return line_C[order], drugs[place_C[order]]


def draw_counts(
    plan: PlatesPlan, plate: int, block: int, line_C: np.ndarray, drug_C: np.ndarray
) -> sp.csr_matrix:
    """Count the cells of one block of a plate's rows, with a generator of its own."""
    config = plan.config
    generator = _generator(config.seed, BLOCKS, plate, block)
    rows = slice(block * BLOCK, (block + 1) * BLOCK)
    log_mean_CG = plan.log_line_LG[line_C[rows]] + plan.log_drug_DG[drug_C[rows]]
    log_mean_CG += plan.log_mean_G + plan.log_plate_PG[plate - 1]
    log_mean_CG += generator.normal(0, LIBRARY_SD, (len(log_mean_CG), 1))
    noise_CG = generator.standard_gamma(1 / config.dispersion, log_mean_CG.shape)
    counts_CG = generator.poisson(np.exp(log_mean_CG) * noise_CG * config.dispersion)
    return sp.csr_matrix(counts_CG.astype(np.float32))


def labels_of_plate(
    plan: PlatesPlan, plate: int, line_C: np.ndarray, drug_C: np.ndarray
) -> pd.DataFrame:
    """obs as Tahoe-100M's is called."""
    return pd.DataFrame(
        {
            "plate": pd.Categorical([f"plate{plate}"] * len(line_C)),
            "cell_line": pd.Categorical(plan.lines[line_C]),
            "drug": pd.Categorical(plan.drugs[drug_C]),
            "moa-broad": pd.Categorical(plan.moa_broad_D[drug_C]),
            "moa-fine": pd.Categorical(plan.moa_fine_D[drug_C]),
        },
        index=[f"plate{plate}_cell{number:07d}" for number in range(len(line_C))],
    )


def write_plate(path: Path, plan: PlatesPlan, plate: int, blocks_per_write: int = 4) -> None:
    """Write one plate's h5ad, raw counts as float32 in CSR, some blocks at a time."""
    line_C, drug_C = draw_cells(plan, plate)
    num_blocks = -(-plan.config.cells_per_plate // BLOCK)
    empty = sp.csr_matrix((0, plan.config.num_genes), dtype=np.float32)
    with writing_hdf5(path) as file:
        about = ad.AnnData(
            obs=labels_of_plate(plan, plate, line_C, drug_C),
            var=pd.DataFrame(index=plan.genes),
            uns={"simulation": settings(plan.config)},
        )
        ad.io.write_elem(file, "/", about)
        storage = {"chunks": (1 << 16,), "indptr_dtype": np.int64}
        ad.io.write_elem(file, "X", empty, dataset_kwargs=storage)
        matrix = ad.io.sparse_dataset(file["X"])
        for start in range(0, num_blocks, blocks_per_write):
            blocks = range(start, min(start + blocks_per_write, num_blocks))
            drawn = [draw_counts(plan, plate, block, line_C, drug_C) for block in blocks]
            matrix.append(sp.vstack(drawn, format="csr"))


def write_plates(folder: Path, config: SimulatedPlates) -> list[Path]:
    """Write plate1.h5ad, plate2.h5ad, ... into a folder."""
    plan = plan_plates(config)
    paths = [folder / f"plate{plate}.h5ad" for plate in range(1, config.num_plates + 1)]
    for plate, path in enumerate(paths, start=1):
        write_plate(path, plan, plate)
    return paths
