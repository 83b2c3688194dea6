"""A corpus in tables: what its vocabulary covers, cells, lengths of sequences, bins."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.draws import Draw
from vcpipe.data.order import generator_of
from vcpipe.data.preprocessing_record import PreprocessingRecord
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.tokenize import bins
from vcpipe.errors import InputError

# Cells lie in random order, so some blocks show the bins of all.
BLOCKS_LOOKED_AT = 32


def corpus_tables(
    store: CellStore,
    record: PreprocessingRecord,
    runs: Mapping[str, Tokenizer],
) -> dict[str, pd.DataFrame]:
    """All tables, by the names of their files."""
    if store.manifest["about"]["record_digest"] != record.digest:
        raise InputError(
            f"{store.path} was written with the record {store.manifest['about']['record_digest']}, "
            f"but the given one is {record.digest}. Rerun prepare_cells, or give its own."
        )
    lengths = lengths_table(store)
    return {
        "coverage": coverage_table(store),
        "cells": cells_table(store),
        "features": features_table(record),
        "lengths": lengths,
        "truncation": truncation_table(lengths, runs),
        "bins": bins_table(store, record, runs),
    }


def coverage_table(store: CellStore) -> pd.DataFrame:
    """What of each source the store has: used, left out in fitting, unknown."""
    table = pd.DataFrame(store.manifest["about"]["coverage"])
    return table.assign(source=_sources(table["dataset"], table["file"]))


def cells_table(store: CellStore) -> pd.DataFrame:
    """Cells of each source: those of each set, and those left out by reason."""
    found = store.manifest["statistics"]["sources"]
    names = _sources([its["dataset"] for its in found], [its["file"] for its in found])
    rows = []
    for source, its in zip(names, found, strict=True):
        kept = its["kept_by_set"]
        rows += [(source, name, number) for name, number in kept.items() if number]
        rows += [(source, reason, number) for reason, number in its["left_out"].items() if number]
    table = pd.DataFrame(rows, columns=["source", "what", "cells"])
    # Files in folders of their own may have the same name (Cell Ranger's).
    return table.groupby(["source", "what"], sort=False, as_index=False)["cells"].sum()


def features_table(record: PreprocessingRecord) -> pd.DataFrame:
    """Genes and peaks by the reason that left them out; a feature may have several."""
    rows = [
        (what, reason, number)
        for what, reasons in record.dropped.items()
        if what != "cells"
        for reason, number in reasons.items()
    ]
    return pd.DataFrame(rows, columns=["features", "reason", "number"])


def lengths_table(store: CellStore) -> pd.DataFrame:
    """How many cells have how many detected features."""
    parts = []
    for modality in store.modalities:
        numbers = store.length_histogram(modality)
        present = np.flatnonzero(numbers)
        parts.append(
            pd.DataFrame({"modality": modality, "length": present, "cells": numbers[present]})
        )
    return pd.concat(parts, ignore_index=True)


def truncation_table(lengths: pd.DataFrame, runs: Mapping[str, Tokenizer]) -> pd.DataFrame:
    """For each run and modality the room for features, quantiles of lengths, the share above."""
    rows = []
    for run, tokenizer in runs.items():
        for modality, most in most_tokens(tokenizer).items():
            its = lengths[lengths["modality"] == modality].sort_values("length")
            if its.empty:
                continue
            longer = its.loc[its["length"] > most, "cells"].sum()
            quantiles = {f"q{share}": _quantile(its, share / 100) for share in (10, 50, 90, 99)}
            rows.append(
                {
                    "run": run,
                    "modality": modality,
                    "most_tokens": most,
                    **quantiles,
                    "longest": int(its["length"].max()),
                    "truncated_cells": int(longer),
                    "truncated_share": float(longer / its["cells"].sum()),
                }
            )
    columns = ["run", "modality", "most_tokens", "q10", "q50", "q90", "q99", "longest"]
    return pd.DataFrame(rows, columns=[*columns, "truncated_cells", "truncated_share"])


def most_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """How many detected features of a cell a tokenizer has room for, by modality."""
    special = int(tokenizer.prepend_cls)
    if tokenizer.strategy == "paired_peaks":
        detected = int(tokenizer.rna_max_len * tokenizer.rna_nonzero_fraction)
        return {"rna": detected, "atac": tokenizer.atac_max_len - special}
    zeros = int((tokenizer.max_genes - special) * tokenizer.include_zero_genes)
    return {"rna": tokenizer.max_genes - special - zeros}


def bins_table(
    store: CellStore, record: PreprocessingRecord, runs: Mapping[str, Tokenizer]
) -> pd.DataFrame:
    """Shares of the bins of detected values, in blocks of training cells that are drawn."""
    binned = {run: its for run, its in runs.items() if its.strategy == "binned_expression"}
    if "rna" not in store.modalities:
        binned = {}
    counts = {run: np.zeros(its.n_bins, dtype=np.int64) for run, its in binned.items()}
    for number in _drawn_blocks(store) if binned else ():
        rows = store.block(number)
        for run, tokenizer in binned.items():
            its = bins(rows, tokenizer, fitted_of(record), Draw(0, 0))
            counts[run] += np.bincount(its, minlength=tokenizer.n_bins)
    parts = [
        pd.DataFrame({"run": run, "bin": np.arange(len(its)), "share": its / max(its.sum(), 1)})
        for run, its in counts.items()
    ]
    columns = ["run", "bin", "share"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _drawn_blocks(store: CellStore) -> list[int]:
    # New cells are all for test.
    cells = store.sets["train"] or store.sets["test"]
    first, last = (int(its) for its in store.block_of(np.array([cells[0], cells[-1]]))[0])
    order = first + generator_of(0).permutation(last - first + 1)
    return sorted(order[:BLOCKS_LOOKED_AT].tolist())


def _sources(datasets, files) -> list[str]:
    """A dataset's name, and its file's where it has several."""
    datasets = list(datasets)
    return [
        name
        if len({f for n, f in zip(datasets, files, strict=True) if n == name}) == 1
        else f"{name}, {file}"
        for name, file in zip(datasets, files, strict=True)
    ]


def _quantile(its: pd.DataFrame, share: float) -> int:
    """The least length that at least this share of cells does not exceed."""
    reached = its["cells"].cumsum().to_numpy() >= share * its["cells"].sum()
    return int(its["length"].iloc[np.argmax(reached)])
