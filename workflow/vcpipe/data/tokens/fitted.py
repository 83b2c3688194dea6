"""What preparation fitted on training cells, as tokenizers apply it to any cell."""

from dataclasses import dataclass

import numpy as np

from vcpipe.config.fitting import Fit
from vcpipe.data.preprocessing_record import PreprocessingRecord


@dataclass(frozen=True)
class Fitted:
    fit: Fit  # how counts are normalised
    # By vocabulary id: the median of a gene's normalised, not logarithmic, values where it is
    # detected; NaN or 0 for ids that are no gene, or a gene that no training cell had.
    gene_medians: np.ndarray | None = None
    bin_edges: np.ndarray | None = None  # quantiles of all normalised training values


def fitted_of(record: PreprocessingRecord, species: str | None = None) -> Fitted:
    """From the record; medians belong to the genes of one species."""
    return Fitted(
        record.fit,
        record.gene_medians(species) if species else None,
        np.array(record.bin_edges) if record.bin_edges else None,
    )
