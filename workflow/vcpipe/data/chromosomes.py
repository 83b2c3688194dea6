"""Chromosomes under one spelling, and tables of genes and their chromosomes."""

import re
from collections import defaultdict
from pathlib import Path

import pandas as pd

from vcpipe.errors import InputError, listed
from vcpipe.files import existing, read_json

MITOCHONDRIAL = {"m", "mt", "mito", "mitochondria", "mitochondrion"}
# Numbers, arms of the fly's chromosomes (2L), roman numbers (yeast, worm), sex chromosomes.
CHROMOSOME = re.compile(r"(\d{1,3}[LR]?|[IVX]+|[YWZ])", re.IGNORECASE)
# "2cen-" and "19q13.43" lie on chromosomes 2 and 19.
BAND = re.compile(r"(\d{1,2}|[XY])(cen|[pq])[0-9.-]*", re.IGNORECASE)
# What tables say of genes whose place nobody knows.
NOWHERE = {"", "un", "unknown", "unplaced", "reserved", "chromosome", "na", "nan", "none"}

# Columns of genes and of chromosomes, in lower case: ours, HGNC's, BioMart's.
GENE_COLUMNS = ("gene", "gene_name", "symbol", "approved_symbol", "gene_symbol", "gene_id")
CHROMOSOME_COLUMNS = ("chromosome", "chr", "chrom", "seqname", "chromosome_name")


def chromosome(name: str) -> str:
    """One spelling of a chromosome: "1" and "CHR1" are "chr1", "MT" is "chrM"; scaffolds stay."""
    bare = name[3:] if name[:3].lower() == "chr" else name
    if bare.lower() in MITOCHONDRIAL:
        return "chrM"
    return f"chr{bare.upper()}" if CHROMOSOME.fullmatch(bare) else name


def read_gene_chromosomes(path: Path) -> dict[str, str]:
    """Read gene2chr.json, or a table; genes that lie nowhere or on several are left out."""
    path = Path(path)
    if path.suffix == ".json":
        found = read_json(path, "gene2chr.json: {gene: chromosome}")
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
            raise InputError(f"{path} is no gene2chr.json; expected an object of gene: chromosome.")
        pairs = found.items()
    else:
        pairs = _read_table(path)
    places = defaultdict(set)
    for gene, name in pairs:
        places[gene].add(_place(name))
    return {
        gene: next(iter(found))
        for gene, found in places.items()
        if gene and len(found) == 1 and found != {""}
    }


def _place(name: str) -> str:
    """The chromosome that a table means, or nothing: "3 or 19" is nowhere, "12 un" on no map."""
    name = name.strip()
    band = BAND.fullmatch(name)
    if band:
        return chromosome(band[1])
    return "" if name.lower() in NOWHERE or re.search(r"[\s,]", name) else chromosome(name)


def _read_table(path: Path) -> list[tuple[str, str]]:
    existing(path, "gene2chr.json, or a table with gene and chromosome")
    # "NA" would be a gene, not a missing value.
    table = pd.read_csv(
        path,
        sep="," if ".csv" in path.suffixes else "\t",
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
    )
    lower = {column.lower(): column for column in table}
    columns = [
        next((lower[name] for name in names if name in lower), None)
        for names in (GENE_COLUMNS, CHROMOSOME_COLUMNS)
    ]
    if None in columns:
        raise InputError(
            f"{path} has the columns {listed(table)}; expected one with genes "
            f"({listed(GENE_COLUMNS)}) and one with chromosomes ({listed(CHROMOSOME_COLUMNS)})."
        )
    return list(table[columns].itertuples(index=False, name=None))
