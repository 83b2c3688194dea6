"""A corpus in tables: what its vocabulary covers, cells, lengths of sequences, bins."""

import numpy as np
import pandas as pd

from vcpipe.config.tokens import Tokenizer

SAMPLED_BLOCKS = 32  # cells lie in random order: a few blocks show the bins of all


def truncation_table(lengths: pd.DataFrame, runs: dict[str, Tokenizer]) -> pd.DataFrame:
    """For each run and modality the most tokens of a cell, quantiles, and the share above.

    `lengths` has modality, length and cells.
    """
    rows = []
    for run, tokenizer in runs.items():
        for modality, most in most_tokens(tokenizer).items():
            its = lengths[lengths["modality"] == modality].sort_values("length")
            if its.empty:
                continue
            longer = its.loc[its["length"] > most, "cells"].sum()
            rows.append(
                {
                    "run": run,
                    "modality": modality,
                    "most_tokens": most,
                    **{f"q{share}": _quantile(its, share / 100) for share in (10, 50, 90, 99)},
                    "longest": int(its["length"].max()),
                    "truncated_cells": int(longer),
                    "truncated_share": float(longer / its["cells"].sum()),
                }
            )
    return pd.DataFrame(rows)


def most_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """How many detected features of a cell a tokenizer has room for, by modality."""
    special = int(tokenizer.prepend_cls)
    if tokenizer.strategy == "paired_peaks":
        return {"rna": tokenizer.rna_max_len, "atac": tokenizer.atac_max_len - special}
    zeros = int((tokenizer.max_genes - special) * tokenizer.include_zero_genes)
    return {"rna": tokenizer.max_genes - special - zeros}


def _quantile(its: pd.DataFrame, share: float) -> int:
    """The least length that at least this share of cells does not exceed."""
    reached = its["cells"].cumsum().to_numpy() >= share * its["cells"].sum()
    return int(its["length"].iloc[np.argmax(reached)])
