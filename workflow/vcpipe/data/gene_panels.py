"""Panels: files that name the genes to look at, as scConcept keeps them or one gene a line."""

import csv
from pathlib import Path

from vcpipe.data.gene_names import read_gene_list
from vcpipe.errors import InputError, listed
from vcpipe.files import existing

PANEL_COLUMN = "Ensembl_ID"


def read_panel(path: Path) -> list[str]:
    """Read the column Ensembl_ID of a CSV (.tsv: tabs), or names one a line; each gene once."""
    path = Path(path)
    existing(path, "a panel: genes one a line, or column Ensembl_ID")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        if PANEL_COLUMN in (rows.fieldnames or ()):
            genes = [(row[PANEL_COLUMN] or "").strip() for row in rows]
        elif len(rows.fieldnames or ()) > 1:
            raise InputError(
                f"{path} has the columns {listed(rows.fieldnames)}; expected {PANEL_COLUMN}, or "
                "one gene a line without a header."
            )
        else:
            genes = read_gene_list(path)
    genes = list(dict.fromkeys(filter(None, genes)))
    if not genes:
        raise InputError(f"{path} names no gene; expected some in column {PANEL_COLUMN}.")
    return genes
