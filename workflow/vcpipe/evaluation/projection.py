"""Embeddings in two dimensions, to be looked at."""

# C cells, D width

import warnings

import numpy as np

from vcpipe.errors import InputError


def drawn_cells(num_cells: int, most: int, seed: int) -> np.ndarray:
    """All cells, or some at random, in their order."""
    if num_cells <= most:
        return np.arange(num_cells)
    return np.sort(np.random.default_rng(seed).choice(num_cells, most, replace=False))


def umap_of(values_CD: np.ndarray, num_neighbors: int, min_dist: float, seed: int) -> np.ndarray:
    """UMAP [C, 2] on the vectors as they are; the same cells give the same picture."""
    if len(values_CD) < 4:
        raise InputError(f"There are {len(values_CD)} cells; UMAP needs 4 at least.")
    with warnings.catch_warnings():
        # It says that it lacks tensorflow, for a variant that nobody asks for.
        warnings.simplefilter("ignore")
        # Only here: the import takes seconds.
        import umap

        # With more neighbours than cells, or three cells, its first guess by eigenvectors fails.
        num_neighbors = min(num_neighbors, len(values_CD) - 1)
        start = "spectral" if len(values_CD) > 10 else "random"
        made = umap.UMAP(
            n_neighbors=num_neighbors, min_dist=min_dist, random_state=seed, n_jobs=1, init=start
        )
        return made.fit_transform(values_CD).astype(np.float32)
