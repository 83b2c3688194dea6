"""What preparation fitted on training cells, as tokenizers apply it to any cell."""

from dataclasses import dataclass

import numpy as np

from vcpipe.config.fitting import Fit


@dataclass(frozen=True)
class Fitted:
    fit: Fit  # how counts are normalised
    # By vocabulary id: the median of a gene's normalised, not logarithmic, values where it is
    # detected; NaN or 0 for ids that are no gene, or a gene that no training cell had.
    gene_medians: np.ndarray | None = None
    bin_edges: np.ndarray | None = None  # quantiles of all normalised training values
