"""Embeddings in two dimensions, to be looked at."""

# C cells, D width

import warnings

import numpy as np

from vcpipe.config.eval import EmbeddingPlot
from vcpipe.errors import InputError


def drawn_cells(num_cells: int, most: int, seed: int) -> np.ndarray:
    """All cells, or some at random, in their order."""
    if num_cells <= most:
        return np.arange(num_cells)
    return np.sort(np.random.default_rng(seed).choice(num_cells, most, replace=False))


def places_of(values_CD: np.ndarray, config: EmbeddingPlot) -> np.ndarray:
    """Two numbers for each cell [C, 2]."""
    if config.method == "pca":
        return pca_of(values_CD)
    return umap_of(values_CD, config.num_neighbors, config.min_dist, config.seed)


def pca_of(values_CD: np.ndarray) -> np.ndarray:
    """The first two principal components [C, 2], each with its largest weight positive."""
    if len(values_CD) < 2 or values_CD.shape[1] < 2:
        raise InputError(
            f"There are {len(values_CD)} cells of {values_CD.shape[1]} numbers; two components "
            "need two of each at least."
        )
    centred_CD = values_CD - values_CD.mean(axis=0, dtype=np.float64)
    weights_DD = np.linalg.svd(centred_CD, full_matrices=False)[2]
    weights_2D = weights_DD[:2]
    # A component and its mirror image are equally right.
    largest = np.abs(weights_2D).argmax(axis=1)
    weights_2D = weights_2D * np.sign(weights_2D[[0, 1], largest])[:, None]
    return (centred_CD @ weights_2D.T).astype(np.float32)


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
