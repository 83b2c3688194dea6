"""The real scgpt 0.2.4 in our own Python, without the packages that it depends on.

Its models, tokenizer, losses and preprocessing are read as they are published. The package's
__init__ isn't run: it imports plots and data banks, which nothing here needs. torchtext, which
current versions of torch no longer have, is asked for a vocabulary and no more: one stands in.
"""

import logging
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch

PARTS = ("model", "tokenizer", "utils", "loss", "preprocess", "data_collator")


class Vocab(torch.nn.Module):
    """As much of torchtext.vocab.Vocab as scgpt calls."""

    def __init__(self, vocab: dict[str, int]):
        super().__init__()
        self.vocab, self.default = vocab, None

    def __len__(self) -> int:
        return len(self.vocab)

    def __contains__(self, token: str) -> bool:
        return token in self.vocab

    def __getitem__(self, token: str) -> int:
        if token not in self.vocab and self.default is None:
            raise RuntimeError(f"Token {token} not found and default index is not set")
        return self.vocab.get(token, self.default)

    def forward(self, tokens: list[str]) -> list[int]:
        return [self[token] for token in tokens]

    def insert_token(self, token: str, index: int) -> None:
        if token in self.vocab or index != len(self.vocab):
            raise RuntimeError(f"{token} cannot be number {index} of {len(self.vocab)}")
        self.vocab[token] = index

    def append_token(self, token: str) -> None:
        self.insert_token(token, len(self.vocab))

    def set_default_index(self, index: int | None) -> None:
        self.default = index

    def get_stoi(self) -> dict[str, int]:
        return dict(self.vocab)

    def get_itos(self) -> list[str]:
        return list(self.vocab)


def vocab(counts: dict[str, int], min_freq: int = 1) -> Vocab:
    kept = [token for token, count in counts.items() if count >= min_freq]
    return Vocab({token: number for number, token in enumerate(kept)})


@contextmanager
def imported(folder: Path) -> Iterator[types.ModuleType]:
    """The package of a folder that holds scgpt/, with the parts above: scgpt.model, scgpt.utils."""
    scgpt, torchtext = types.ModuleType("scgpt"), types.ModuleType("torchtext")
    scgpt.__path__, scgpt.logger = [str(folder / "scgpt")], logging.getLogger("scGPT")
    torchtext.vocab = types.ModuleType("torchtext.vocab")
    torchtext.vocab.Vocab, torchtext.vocab.vocab = Vocab, vocab
    sys.modules |= {"scgpt": scgpt, "torchtext": torchtext, "torchtext.vocab": torchtext.vocab}
    try:
        with warnings.catch_warnings():
            # That flash-attn is missing, among others.
            warnings.simplefilter("ignore")
            for part in PARTS:
                import_module(f"scgpt.{part}")
        yield scgpt
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in ("scgpt", "torchtext")]:
            del sys.modules[name]
