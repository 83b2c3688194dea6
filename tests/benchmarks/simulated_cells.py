"""UMI-like counts: 18,000 genes of which 2,400 are detected in a cell, two thirds of them once."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

NUM_GENES = 18_000
DETECTED = 2_400
BLOCK = 1024


def simulated_counts(num_cells: int, seed: int = 0) -> sp.csr_matrix:
    """float32 CSR; genes differ by orders of magnitude, cells in depth."""
    generator = np.random.default_rng(seed)
    mean_G = np.random.default_rng(0).lognormal(0, 1.8, NUM_GENES)
    # The depth at which the wanted number of genes is detected.
    least, most = 1e-6, 10.0
    for _ in range(60):
        depth = np.sqrt(least * most)
        found = (1 - np.exp(-mean_G * depth)).sum()
        least, most = (depth, most) if found < DETECTED else (least, depth)
    # Most genes of a cell are not detected: draw those that are from 1 on, and how many.
    parts = []
    for start in range(0, num_cells, BLOCK):
        size = min(BLOCK, num_cells - start)
        depth_C1 = generator.lognormal(-0.03, 0.25, (size, 1)).astype(np.float32)
        mean_CG = depth_C1 * (mean_G * depth).astype(np.float32)
        hit = generator.random(mean_CG.shape, dtype=np.float32) < -np.expm1(-mean_CG)
        rows, columns = np.nonzero(hit)
        its = mean_CG[rows, columns].astype(np.float64)
        # Poisson above zero: the first event falls at a time before 1, others after it.
        first = -np.log1p(generator.random(len(its)) * np.expm1(-its)) / its
        counts = 1 + generator.poisson(its * (1 - first))
        parts.append(sp.csr_matrix((counts.astype(np.float32), (rows, columns)), mean_CG.shape))
    return sp.csr_matrix(sp.vstack(parts, format="csr"))


def write_cells(path: Path, num_cells: int, num_different: int = 20_000) -> float:
    """An h5ad as anndata writes it; beyond `num_different` cells repeat. Entries per cell."""
    counts = simulated_counts(min(num_cells, num_different))
    labels = np.random.default_rng(1).integers(0, 40, num_cells)
    obs = pd.DataFrame(
        {"condition": pd.Categorical(labels.astype(str))},
        index=[f"cell{number:08d}" for number in range(num_cells)],
    )
    # Names in no order, as in files.
    names = np.random.default_rng(2).permutation([f"G{n:05d}" for n in range(NUM_GENES)])
    var = pd.DataFrame(index=names)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        ad.io.write_elem(file, "/", ad.AnnData(obs=obs, var=var))
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        shape = np.array([num_cells, NUM_GENES])
        group.attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape}
        )
        repeats = -(-num_cells // counts.shape[0])
        lengths = np.tile(np.diff(counts.indptr), repeats)[:num_cells]
        starts = np.append(0, np.cumsum(lengths, dtype=np.int64))
        group["indptr"] = starts
        for name, values in (("data", counts.data), ("indices", counts.indices)):
            dataset = group.create_dataset(name, (starts[-1],), values.dtype, chunks=(2**20,))
            for start in range(0, starts[-1], len(values)):
                dataset[start : start + len(values)] = values[: starts[-1] - start]
    return starts[-1] / num_cells
