"""A screen's genes found in a vocabulary that calls some of them by another name.

The order of preference, each step for what the step before it left over:

  exact            the name is a token
  previous_symbol  the name is out of date; the token is the gene's current symbol (or, both being
                   out of date, another of its former ones)
  current_symbol   the name is up to date; the token is a former symbol
  ensembl_id       the name, the gene's id column or the token is an Ensembl id
  version_suffix   both are the same Ensembl id, of another version: ENSG00000134684.12

A gene's known Ensembl id decides where its name says nothing, several genes, or another gene. What
is left has no token: `ambiguous` (several genes have had the symbol, or several tokens are one
gene), `collision` (another gene of the screen has the token), `missing`.

The number in a clone's name is no version: AC093323.1 and AC093323.3 are two genes of one clone, so
such names are matched exactly or not at all.
"""

import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.config.reading import PROJECT
from vcpipe.errors import InputError, listed
from vcpipe.files import existing

GENE_ALIASES = PROJECT / "resources" / "gene_aliases.tsv.gz"

MATCHED = ("exact", "previous_symbol", "current_symbol", "ensembl_id", "version_suffix")
FATES = (*MATCHED, "collision", "ambiguous", "missing")

# var columns in which screens keep Ensembl ids: ours, 10x's and scanpy's, CELLxGENE's, others'.
GENE_ID_COLUMNS = ("gene_id", "gene_ids", "feature_id", "ensembl_id", "ensembl_gene_id")
ENSEMBL_ID = re.compile(r"(ENS[A-Z]*G\d{11})(\.\d+)?")

# Every spelling -> the genes it may stand for, each by its current symbol.
Aliases = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Match:
    token: str  # empty where there is none
    fate: str
    note: str = ""


def read_aliases(path: Path = GENE_ALIASES) -> Aliases:
    """Read symbol, ensembl_id, previous (A|B); a symbol in use stands for its present gene only."""
    lines = gzip.decompress(existing(path, "the gene names that ship with vcpipe").read_bytes())
    header, *rows = (line.split("\t") for line in lines.decode().splitlines())
    if header != ["symbol", "ensembl_id", "previous"]:
        raise InputError(
            f"{path} has the columns {listed(header)}; expected symbol, ensembl_id, previous. "
            "Make it with python -m scripts.build_gene_aliases."
        )
    former = defaultdict(list)
    for symbol, ensembl_id, previous in rows:
        for spelling in (ensembl_id, *previous.split("|")):
            former[spelling].append(symbol)
    former.pop("", None)
    genes = {spelling: tuple(sorted(symbols)) for spelling, symbols in former.items()}
    return genes | {symbol: (symbol,) for symbol, *_ in rows}


def match_genes(
    genes: Iterable[str],
    gene_ids: Iterable[str] | None,
    token_ids: Mapping[str, int],
    aliases: Aliases | None,
) -> pd.DataFrame:
    """Each gene's token, token_id (-1: none), fate and, where it lost its token, why.

    Without aliases only exact names match. `gene_ids` may hold anything; Ensembl ids are heeded.
    """
    genes = [str(gene) for gene in genes]
    ids = [""] * len(genes) if gene_ids is None else [str(gene_id) for gene_id in gene_ids]
    tokens_of = {} if aliases is None else tokens_by_gene(token_ids, aliases)
    matches = [
        _match(gene, gene_id, token_ids, tokens_of, aliases or {})
        for gene, gene_id in zip(genes, ids, strict=True)
    ]
    matches = _without_collisions(genes, matches)
    table = pd.DataFrame({"gene": genes} | ({} if gene_ids is None else {"gene_id": ids}))
    table["token"] = [match.token for match in matches]
    table["token_id"] = [token_ids.get(match.token, -1) for match in matches]
    table["fate"] = [match.fate for match in matches]
    table["note"] = [match.note for match in matches]
    return table


def tokens_by_gene(tokens: Iterable[str], aliases: Aliases) -> dict[str, list[str]]:
    """The tokens that can only mean one gene, by that gene."""
    found = defaultdict(list)
    for token in tokens:
        genes = genes_behind(token, aliases)
        if len(genes) == 1:
            found[genes[0]].append(token)
    return dict(found)


def genes_behind(spelling: str, aliases: Aliases) -> tuple[str, ...]:
    """The genes a name may mean; an Ensembl id that the table lacks means itself."""
    bare = ensembl_id(spelling)
    return aliases.get(bare or spelling, (bare,) if bare else ())


def ensembl_id(name: str) -> str:
    """The id without its version, or nothing: "ENSG00000134684.12" gives "ENSG00000134684"."""
    found = ENSEMBL_ID.fullmatch(name)
    return found[1] if found else ""


def _match(
    name: str,
    gene_id: str,
    token_ids: Mapping[str, int],
    tokens_of: dict[str, list[str]],
    aliases: Aliases,
) -> Match:
    if name in token_ids:
        return Match(name, "exact")
    spelling, genes = name, genes_behind(name, aliases)
    by_id = genes_behind(gene_id, aliases) if ensembl_id(gene_id) else ()
    if by_id != genes and (ensembl_id(gene_id) in aliases or tokens_of.keys() & by_id):
        spelling, genes = gene_id, by_id
    if len(genes) > 1:
        return Match("", "ambiguous", f"{spelling} may be {' or '.join(genes)}")
    tokens = [token for gene in genes for token in tokens_of.get(gene, [])]
    if set(genes) & set(tokens):
        tokens = list(genes)
    if len(tokens) > 1:
        return Match("", "ambiguous", f"{' and '.join(tokens)} are tokens of one gene")
    if not tokens:
        return Match("", "missing")
    return Match(tokens[0], _way(spelling, tokens[0], genes))


def _way(spelling: str, token: str, genes: tuple[str, ...]) -> str:
    """How a spelling leads to the token of its gene."""
    ids = ensembl_id(spelling), ensembl_id(token)
    if any(ids):
        same = ids[0] == ids[1] and spelling != token
        return "version_suffix" if same else "ensembl_id"
    return "current_symbol" if spelling in genes else "previous_symbol"


def _without_collisions(genes: list[str], matches: list[Match]) -> list[Match]:
    """Give a token to one gene: to the one of its name, or to none of those that want it."""
    rows_of = defaultdict(list)
    for row, match in enumerate(matches):
        if match.token:
            rows_of[match.token].append(row)
    kept = list(matches)
    for token, rows in rows_of.items():
        exact = [row for row in rows if matches[row].fate == "exact"]
        for row in rows if len(rows) > 1 else ():
            if exact != [row]:
                others = sorted(genes[other] for other in rows if other != row)
                kept[row] = Match("", "collision", f"{token} is also that of {', '.join(others)}")
    return kept


def renamed_genes(matches: pd.DataFrame) -> dict[str, str]:
    """Genes whose token is not their name: {"YARS": "YARS1"}."""
    found = matches[(matches["token"] != "") & (matches["token"] != matches["gene"])]
    return dict(zip(found["gene"], found["token"], strict=True))


def count_fates(matches: pd.DataFrame) -> pd.DataFrame:
    """Numbers and shares of all fates, and of the genes that have a token ("matched")."""
    numbers = matches["fate"].value_counts().reindex(FATES, fill_value=0)
    numbers.loc["matched"] = numbers[list(MATCHED)].sum()
    table = numbers.rename_axis("fate").reset_index(name="number")
    return table.assign(share=table["number"] / len(matches))


def read_fates(paths: list[Path]) -> pd.DataFrame:
    """The numbers that match_genes counted for some runs, one under the other."""
    columns = ["run", "dataset", "fate", "number", "share"]
    tables = [pd.read_csv(existing(path, "numbers of match_genes"), sep="\t") for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if list(table) != columns:
            raise InputError(f"{path} has columns {listed(table)}; expected {listed(columns)}.")
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def gene_ids_of(var: pd.DataFrame) -> np.ndarray | None:
    """The first usual column of var that holds Ensembl ids."""
    for column in GENE_ID_COLUMNS:
        if column in var and any(map(ensembl_id, var[column].astype(str))):
            return var[column].to_numpy(dtype=str)
    return None


def read_gene_list(path: Path) -> list[str]:
    """Read names, one a line, without a header; the last line need not end (VCC's file)."""
    path = existing(path, "gene names, one a line, no header")
    genes = path.read_text(encoding="utf-8-sig").splitlines()
    twice = [gene for gene, number in Counter(genes).items() if number > 1]
    if not all(genes) or twice or not genes:
        wrong = f"{listed(twice)} twice" if any(twice) else "an empty line" if genes else "nothing"
        raise InputError(f"{path} holds {wrong}; expected each gene once, one a line, no header.")
    return genes
