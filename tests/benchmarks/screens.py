"""Raw counts of the Virtual Cell Challenge's shape, as large as is asked for, in bounded memory.

python -m tests.benchmarks.screens OUT NUM_CELLS [NUM_GENES] [NUM_TARGETS]
"""

import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd

BLOCK = 512
CONTROL_SHARE = 0.17
NUM_BATCHES = 48


def write_screen(path: Path, num_cells: int, num_genes: int = 18080, num_targets: int = 150) -> int:
    """Write uncompressed CSR counts, float32, some 45 % of them not zero; return their number.

    Every perturbation takes 80 % of its target and doubles or halves forty other genes.
    """
    generator = np.random.default_rng(0)
    # Log-normal means over six orders of magnitude, 50,000 counts a cell, as in the challenge.
    mean_G = generator.lognormal(0, 1.85, num_genes)
    mean_G *= 50_000 * num_genes / 18_080 / mean_G.sum()
    targets_T = generator.choice(num_genes, num_targets, replace=False)
    fold_TG = np.ones((num_targets + 1, num_genes), dtype=np.float32)
    for target, fold_G in zip(targets_T, fold_TG[:-1], strict=True):
        genes = generator.choice(num_genes, min(40, num_genes // 4), replace=False)
        fold_G[genes] = generator.choice([0.5, 2.0], len(genes))
        fold_G[target] = 0.2
    target_C = generator.integers(0, num_targets, num_cells)
    target_C[generator.random(num_cells) < CONTROL_SHARE] = num_targets
    genes = np.array([f"G{number:05d}" for number in range(num_genes)])
    labels = np.append(genes[targets_T], "non-targeting")
    obs = pd.DataFrame(
        {
            "target_gene": pd.Categorical.from_codes(target_C, labels),
            "guide_id": pd.Categorical.from_codes(target_C, labels + "_g1"),
            "batch": pd.Categorical(generator.integers(0, NUM_BATCHES, num_cells).astype(str)),
        },
        index=[f"cell{number:07d}" for number in range(num_cells)],
    )
    var = pd.DataFrame({"gene_id": [f"ENSG{n:011d}" for n in range(num_genes)]}, index=genes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        ad.io.write_elem(file, "/", ad.AnnData(obs=obs, var=var))
        return _write_counts(file, mean_G.astype(np.float32), fold_TG, target_C, generator)


def _write_counts(file, mean_G, fold_TG, target_C, generator) -> int:
    if "X" in file:
        del file["X"]
    group = file.create_group("X")
    shape = np.array([len(target_C), len(mean_G)])
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
    data, indices = (
        group.create_dataset(name, (0,), maxshape=(None,), chunks=(2**20,), dtype=dtype)
        for name, dtype in (("data", np.float32), ("indices", np.int32))
    )
    starts = [np.zeros(1, dtype=np.int64)]
    done = 0
    for start in range(0, len(target_C), BLOCK):
        part_C = target_C[start : start + BLOCK]
        depth_C1 = generator.lognormal(0, 0.3, (len(part_C), 1)).astype(np.float32)
        counts_CG = generator.poisson(mean_G * fold_TG[part_C] * depth_C1)
        rows, columns = np.nonzero(counts_CG)
        for dataset, values in ((data, counts_CG[rows, columns]), (indices, columns)):
            dataset.resize((done + len(rows),))
            dataset[done:] = values
        starts.append(done + np.cumsum(np.bincount(rows, minlength=len(part_C))))
        done += len(rows)
    group["indptr"] = np.concatenate(starts)
    return done


if __name__ == "__main__":
    out, *sizes = sys.argv[1:]
    print(f"{write_screen(Path(out), *map(int, sizes)):,} counts above zero")
