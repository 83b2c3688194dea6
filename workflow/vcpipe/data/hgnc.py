"""HGNC's list of approved genes -> the small table of former names that ships with vcpipe."""

import gzip
import re
from pathlib import Path

import pandas as pd

from vcpipe.errors import InputError, listed
from vcpipe.files import existing, writing

# hgnc_complete_set.txt and the custom downloads of genenames.org name the same columns differently.
COLUMNS = {
    "symbol": ("symbol", "Approved symbol"),
    "ensembl_id": ("ensembl_gene_id", "Ensembl gene ID"),
    "previous": ("prev_symbol", "Previous symbols"),
    "status": ("status", "Status"),
}


def read_hgnc(path: Path) -> pd.DataFrame:
    """Approved genes, sorted: symbol, ensembl_id, and previous symbols as "A|B"."""
    # "NaN" and "NA" would be symbols, not missing values.
    table = pd.read_csv(
        existing(path, "HGNC's hgnc_complete_set.txt, or a custom download of genenames.org"),
        sep="\t",
        dtype=str,
        keep_default_na=False,
    )
    found = {}
    for column, names in COLUMNS.items():
        present = [name for name in names if name in table]
        if not present:
            raise InputError(f"{path} has no column {' or '.join(names)}; its are {listed(table)}.")
        found[column] = table[present[0]].str.strip()
    genes = pd.DataFrame(found)
    genes = genes[genes["status"] == "Approved"].drop(columns="status")
    genes["previous"] = ["|".join(sorted(_split(text))) for text in genes["previous"]]
    twice = genes.loc[genes["symbol"].duplicated(), "symbol"]
    if len(twice):
        raise InputError(f"{path} lists {listed(twice)} twice; expected each symbol once.")
    return genes.sort_values("symbol", ignore_index=True)


def _split(symbols: str) -> set[str]:
    """The complete set writes "A|B", custom downloads write "A, B"."""
    return set(filter(None, re.split(r"\||, *", symbols)))


def write_aliases(path: Path, genes: pd.DataFrame) -> None:
    """Write the table so that the same genes always give the same bytes."""
    text = genes.to_csv(sep="\t", index=False, lineterminator="\n")
    with writing(path) as partial:
        partial.write_bytes(gzip.compress(text.encode(), mtime=0))
