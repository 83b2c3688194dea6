"""What scModelForge takes for masked padded batches of the same cells, as JSON.

python tests/benchmarks/scmodelforge_peer.py rank|binned CELLS: its checkout's src is on the path;
the first batch before masking goes to CELLS_peer_rank.npz. The steps are those of its
TokenizedCellDataset and of its loader's collate function, without Lightning around them.
"""

import json
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scmodelforge import __version__
from scmodelforge.data import CellDataset, GeneVocab, PreprocessingPipeline
from scmodelforge.tokenizers import MaskingStrategy, get_tokenizer

BATCH = 64


def main(name: str, path: Path) -> dict:
    torch.set_num_threads(1)
    counts = sp.load_npz(path)
    genes = pd.DataFrame(index=[f"G{number:05d}" for number in range(counts.shape[1])])
    obs = pd.DataFrame(index=[str(number) for number in range(counts.shape[0])])
    cells = ad.AnnData(counts, obs, genes)
    vocabulary = GeneVocab.from_adata(cells)
    dataset = CellDataset(cells, vocabulary, PreprocessingPipeline())
    tokenizer = get_tokenizer(
        {"rank": "rank_value", "binned": "binned_expression"}[name],
        gene_vocab=vocabulary,
        max_len=2048,
    )
    masking = MaskingStrategy(vocab_size=len(vocabulary))

    def tokenized(cell: int):
        sample = dataset[cell]
        return tokenizer.tokenize(sample["expression"], sample["gene_indices"])

    first = tokenizer._collate([tokenized(cell) for cell in range(BATCH)])
    arrays = {key: value.numpy() for key, value in first.items()}
    np.savez(path.with_name(f"{path.stem}_peer_{name}.npz"), **arrays)

    before = time.process_time()
    for start in range(0, len(dataset), BATCH):
        stop = min(start + BATCH, len(dataset))
        tokenizer._collate([masking.apply(tokenized(cell)) for cell in range(start, stop)])
    cpu = time.process_time() - before
    return {"cpu": cpu, "num_cells": len(dataset), "version": __version__}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
