"""One frozen vocabulary: name -> id, special tokens first, hashed, kept in every checkpoint."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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

    def names(self) -> list[str]:
        """All names, in the order of their ids."""
        return sorted(self.ids, key=self.ids.get)

    def encode(self, genes: Iterable[str]) -> np.ndarray:
        """Ids of genes; a gene that the vocabulary lacks is -1, never <pad>."""
        return np.array([self.ids.get(gene, -1) for gene in genes], dtype=np.int32)


def build_vocabulary(genes: Iterable[str], special_tokens: list[str]) -> Vocabulary:
    """Number the special tokens in their order, then the genes sorted by name."""
    check_special_tokens(special_tokens, "special_tokens")
    return numbered(special_tokens, sorted(set(genes)))


def numbered(special_tokens: Iterable[str], names: list[str]) -> Vocabulary:
    """Number special tokens and names, each in their order."""
    clash = sorted(set(names) & set(special_tokens))
    if clash:
        raise InputError(
            f"{listed(clash)} are names in the data and special tokens; rename them in "
            "special_tokens."
        )
    assert len(set(names)) == len(names)
    return Vocabulary({name: number for number, name in enumerate([*special_tokens, *names])})


def check_special_tokens(
    tokens: Iterable[str], where: str, needed: Iterable[str] = (PAD, CLS)
) -> None:
    missing = [token for token in needed if token not in tokens]
    if missing:
        raise InputError(f"{where} lacks {listed(missing)}; models need {' and '.join(needed)}.")


def refuse_other_tokens(tokens: Iterable[str], special: Iterable[str], where: str) -> None:
    """Refuse what looks like a special token and is not known as one: it would be a gene."""
    others = sorted(set(tokens) - set(special))
    others = [token for token in others if token.startswith("<") and token.endswith(">")]
    if others:
        raise InputError(
            f"{where} has {listed(others)}, which special_tokens does not name; add them to "
            "special_tokens.others, or call them cls, pad or mask there."
        )


def read_vocabulary(path: Path, needed: Iterable[str] = (PAD, CLS)) -> Vocabulary:
    """Read scGPT's vocab.json with the special tokens that models need."""
    ids = read_token_ids(path)
    check_special_tokens(ids, str(path), needed)
    return Vocabulary(ids)


def with_special_tokens(ids: dict[str, int], special: list[str]) -> dict[str, int]:
    """Special tokens get the numbers behind those that are taken."""
    return ids | {token: len(ids) + place for place, token in enumerate(special)}


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
