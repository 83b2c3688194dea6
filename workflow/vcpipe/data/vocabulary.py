"""One frozen vocabulary: gene symbol -> id, sorted by name, hashed, kept in every checkpoint."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.errors import InputError, listed
from vcpipe.files import digest, read_json

PAD, CLS = "<pad>", "<cls>"


@dataclass(frozen=True)
class Vocabulary:
    ids: dict[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        return digest(self.ids)

    def encode(self, genes: Iterable[str]) -> np.ndarray:
        """Ids of genes; a gene that the vocabulary lacks is -1, never <pad>."""
        return np.array([self.ids.get(gene, -1) for gene in genes], dtype=np.int32)


def build_vocabulary(genes: Iterable[str], special_tokens: list[str]) -> Vocabulary:
    """Sort genes by name and number them; special tokens follow, as in scGPT's vocab.json."""
    names = sorted(set(genes))
    clash = sorted(set(names) & set(special_tokens))
    if clash:
        raise InputError(
            f"{listed(clash)} are genes and special tokens; rename them in special_tokens."
        )
    check_special_tokens(special_tokens, "special_tokens")
    return Vocabulary({name: number for number, name in enumerate([*names, *special_tokens])})


def check_special_tokens(tokens: Iterable[str], where: str) -> None:
    missing = [token for token in (PAD, CLS) if token not in tokens]
    if missing:
        raise InputError(f"{where} lacks {listed(missing)}; the models need {PAD} and {CLS}.")


def read_vocabulary(path: Path) -> Vocabulary:
    """Read scGPT's vocab.json with the special tokens that models need."""
    ids = read_token_ids(path)
    check_special_tokens(ids, str(path))
    return Vocabulary(ids)


def read_token_ids(path: Path) -> dict[str, int]:
    """Read scGPT's vocab.json: {"A1BG": 0, ...}, each id once, from 0 upwards."""
    ids = read_json(path, "a vocabulary: {gene: id}")
    if not isinstance(ids, dict) or not all(type(value) is int for value in ids.values()):
        raise InputError(f"{path} is no vocabulary; expected an object of gene: integer id.")
    if sorted(ids.values()) != list(range(len(ids))):
        raise InputError(
            f"{path} has {len(ids)} tokens whose ids are not 0..{len(ids) - 1}, each once; "
            "expected the vocab.json that belongs to the checkpoint."
        )
    return ids


def check_match(genes: Iterable[str], token_ids: np.ndarray, least: float, what: str) -> None:
    """Refuse a vocabulary that knows too few genes; training on the rest would be a guess."""
    share = float(np.mean(token_ids >= 0))
    if share < least:
        unknown = [gene for gene, number in zip(genes, token_ids, strict=True) if number < 0]
        raise InputError(
            f"{what} knows {share:.1%} of {len(token_ids)} genes; expected at least {least:.0%} "
            f"(min_gene_match). It lacks {listed(unknown)}. "
            "Are gene names symbols of the same species?"
        )


def gene_table(vocabulary: Vocabulary, genes_of: dict[str, Iterable[str]]) -> pd.DataFrame:
    """Every gene of every screen and its fate: an id, or -1."""
    parts = [
        pd.DataFrame({"screen": name, "gene": list(genes), "id": vocabulary.encode(genes)})
        for name, genes in genes_of.items()
    ]
    return pd.concat(parts, ignore_index=True)
