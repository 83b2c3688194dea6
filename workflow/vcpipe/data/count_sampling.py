"""Raw counts drawn from predicted values: what a sequencer would have counted in such cells."""

# C cells, G genes

import numpy as np
import scipy.sparse as sp

from vcpipe.errors import InputError


def draw_counts(
    values_CG: np.ndarray,
    num_counts_C: np.ndarray,
    count_sampling: str,
    generator: np.random.Generator,
    condition: str,
) -> sp.csr_matrix:
    """Counts whose expected shares of a cell are those of its log1p values, undone.

    With multinomial a cell's counts sum to num_counts_C, with poisson they do so on average. Means
    of the counts' own log1p values lie below the predicted ones where counts are few: a logarithm's
    mean is less than the logarithm of a mean.
    """
    rate_CG = np.expm1(values_CG, dtype=np.float64)
    total_C = rate_CG.sum(axis=1)
    useless_C = ~(total_C > 0) | ~np.isfinite(total_C)
    if useless_C.any():
        raise InputError(
            f"{useless_C.sum()} cells predicted for {condition} express no gene, or have values "
            "that are no numbers, so no counts can be drawn for them; set counts: false, or look "
            "at the model."
        )
    share_CG = rate_CG / total_C[:, None]
    counts_CG = SAMPLING[count_sampling](share_CG, num_counts_C, generator)
    return sp.csr_matrix(counts_CG, dtype=np.float32)


def multinomial(
    share_CG: np.ndarray, num_counts_C: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    return generator.multinomial(num_counts_C, share_CG)


def poisson(
    share_CG: np.ndarray, num_counts_C: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    return generator.poisson(share_CG * num_counts_C[:, None])


SAMPLING = {"multinomial": multinomial, "poisson": poisson}


def scaled_to_median(num_counts_C: np.ndarray, median: float) -> np.ndarray:
    """Library sizes with their spread kept and their median moved; none becomes empty."""
    scale = median / np.median(num_counts_C)
    return np.maximum(np.rint(num_counts_C * scale), 1).astype(np.int64)
