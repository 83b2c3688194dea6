"""What EpiFoundation's loader takes for batches of the same cells, as JSON.

python tests/benchmarks/epifoundation_peer.py CHECKOUT FOLDER: FOLDER/rna.h5ad and atac.h5ad; the
first batch goes to FOLDER/pairs_peer.npz. PairedSCDataset is read from the checkout as it is, by
torch's DataLoader in this process. Only imports that this machine lacks are stood in for: torchtext
(its Vocab is a dictionary here, asked before the clock runs) and memory_profiler.
"""

import json
import logging
import os
import sys
import time
import types
from pathlib import Path

import numpy as np
import torch

BATCH, RNA_MAX_LEN, ATAC_MAX_LEN = 32, 8000, 12_000


class Vocab:
    """What EpiFoundation uses of torchtext.vocab.Vocab."""

    def __init__(self, _):
        self.ids, self.vocab, self.default = {}, None, None

    def insert_token(self, token: str, number: int) -> None:
        self.ids[token] = number

    def set_default_index(self, number: int) -> None:
        self.default = number

    def __call__(self, tokens: list[str]) -> list[int]:
        return [self[token] for token in tokens]

    def __getitem__(self, token: str) -> int:
        return self.ids.get(token, self.default)

    def __contains__(self, token: str) -> bool:
        return token in self.ids


def imported(checkout: Path):
    """data.dataloader of the checkout; its __init__ files name modules that it does not have."""
    for name in ("data", "tokenizer"):
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / name)]
        sys.modules[name] = package
    profiler = types.ModuleType("memory_profiler")
    profiler.profile = lambda function: function
    vocab = types.ModuleType("torchtext.vocab")
    vocab.Vocab = Vocab
    torchtext = types.ModuleType("torchtext")
    torchtext.vocab = vocab
    stood_in = {"memory_profiler": profiler, "torchtext": torchtext, "torchtext.vocab": vocab}
    sys.modules.update(stood_in)
    from data import dataloader

    return dataloader


def vocabulary(tokens) -> Vocab:
    made = Vocab(None)
    for number, token in enumerate(tokens):
        made.insert_token(token, number)
    if "<pad>" in made:
        made.set_default_index(made["<pad>"])
    return made


def main(checkout: Path, folder: Path) -> dict:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = "0"
    np.random.seed(0)  # noqa: NPY002, what it draws from
    known = json.loads((folder / "pairs.json").read_text())
    special = ["<pad>", "<cls>"]
    dataset = imported(checkout).PairedSCDataset(
        rna_file=str(folder / "rna.h5ad"),
        atac_file=str(folder / "atac.h5ad"),
        rna_key="X",
        atac_key="X",
        rna_vocab=vocabulary(special + known["genes"]),
        atac_vocab=vocabulary(special + known["peaks"]),
        cell_vocab=vocabulary(["B", "T"]),
        batch_vocab=vocabulary(["b0"]),
        chr_vocab=vocabulary(special + known["chromosomes"]),
        gene2chr_file=str(folder / "gene2chr.json"),
        rna_max_len=RNA_MAX_LEN,
        atac_max_len=ATAC_MAX_LEN,
        pad_token="<pad>",
        rna_pad_value=-2,
        cls_token="<cls>",
        logger=logging.getLogger(),
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=0)
    first = next(iter(loader))
    np.savez(folder / "pairs_peer.npz", **{name: its.numpy() for name, its in first.items()})
    before = time.process_time()
    num_cells = sum(len(batch["rna_ids"]) for batch in loader)
    return {"cpu": time.process_time() - before, "num_cells": num_cells}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
