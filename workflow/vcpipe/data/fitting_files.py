"""The folder that fit_preprocessing writes: the record, and tables for people."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from vcpipe.data.fitting import Fitted
from vcpipe.data.preprocessing_record import DIGITS


def write_fitted(folder: Path, fitted: Fitted, special_tokens: Collection[str]) -> None:
    """Write record.json, genes.tsv, peaks.tsv and hvg.csv (of several species one each)."""
    fitted.record.write(folder / "record.json")
    genes, peaks = [], None
    for of, table in fitted.statistics.items():
        table = table[~table["name"].isin(list(special_tokens))]
        if of == "atac":
            peaks = table.rename(columns={"name": "peak"})
        else:
            _, species = of.split(" ", 1)
            genes.append(table.rename(columns={"name": "gene"}).assign(species=species))
    if genes:
        _write(pd.concat(genes), folder / "genes.tsv", "\t")
    if peaks is not None:
        _write(peaks, folder / "peaks.tsv", "\t")
    for table in genes:
        if "rank" not in table:
            continue
        species = table["species"].iloc[0]
        name = "hvg.csv" if len(genes) == 1 else f"species/{species}_hvg.csv"
        (folder / name).parent.mkdir(exist_ok=True)
        chosen = table[table["highly_variable"].eq(True)].sort_values("rank")
        # EpiFoundation takes the first column of every row for a gene to use.
        rest = [one for one in chosen if one not in ("gene", "species", "rank")]
        _write(chosen[["gene", "rank", *rest]], folder / name, ",")


def _write(table: pd.DataFrame, path: Path, separator: str) -> None:
    whole = table.assign(
        **{name: table[name].astype("Int64") for name in ("rank", "num_groups") if name in table}
    )
    whole.to_csv(path, sep=separator, index=False, float_format=f"%.{DIGITS}g")
