"""What our binning and tokenizers take, as JSON; time begins after the loops are compiled.

python -m tests.benchmarks.our_tokens bin CELLS: bins as by default; those of scgpt_peer.py for the
same draws go to CELLS_ours.npz
python -m tests.benchmarks.our_tokens rank|binned CELLS: tokens of the first batch go to
CELLS_ours_rank.npz
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.benchmarks.token_cells import batches, read_rows
from vcpipe.config.fitting import Fit
from vcpipe.config.tokens import Masking, Tokenizer
from vcpipe.data.binning import quantile_bins
from vcpipe.data.cell_store.cells import cells_of
from vcpipe.data.draws import Draw
from vcpipe.data.tokens.collate import collate
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.masking import hidden_genes
from vcpipe.data.tokens.packing import Specials, padded
from vcpipe.data.tokens.tokenize import recipe_of, tokenize

BATCH = 64
SEED = 11
# scModelForge's ids: <pad>, <unk>, <mask>, <cls>, then genes in the order of columns.
FIRST_GENE = 4
SPECIAL = Specials(cls_id=3, pad_id=0, mask_id=2, cls_value=0, pad_value=0, mask_value=0)
TOKENIZERS = {
    "rank": Tokenizer(strategy="rank_value"),
    "binned": Tokenizer(strategy="binned_expression", binning_method="uniform"),
}


def bin_cells(path: Path) -> dict:
    rows = read_rows(path)
    parts = batches(rows, BATCH)

    def by_default() -> None:
        for part in parts:
            quantile_bins(part, 51)

    def drawn() -> list[np.ndarray]:
        # scGPT's own numbers; to draw them is more than half of the work.
        draws = np.random.RandomState(SEED)
        return [quantile_bins(part, 51, draws.random_sample(len(part.ids))) for part in parts]

    np.savez(path.with_name(f"{path.stem}_ours.npz"), bins=np.concatenate(drawn()))
    return {"cpu": cpu_of(by_default), "cpu_drawn": cpu_of(drawn), "num_cells": len(rows)}


def tokens_of(name: str, path: Path) -> dict:
    rows = read_rows(path, FIRST_GENE)
    parts, fitted, config = batches(rows, BATCH), Fitted(Fit()), TOKENIZERS[name]
    gene_ids = np.arange(FIRST_GENE, int(rows.ids.max()) + 1)
    # scModelForge keeps the first genes, and we the largest values: compared where both do alike.
    alike = config.model_copy(update={"truncation": "first"} if name == "binned" else {})
    tokens = tokenize(parts[0], SPECIAL, alike, fitted, seed=0, epoch=0)
    first = padded(tokens, SPECIAL.pad_id, SPECIAL.pad_value)
    np.savez(path.with_name(f"{path.stem}_ours_{name}.npz"), **first)

    recipe, hiding = recipe_of(config, fitted), hidden_genes(Masking(), SPECIAL, gene_ids)

    def make_batches() -> None:
        for part in parts:
            cells, all_of_them = cells_of(part), np.arange(len(part))
            named = recipe, SPECIAL, Draw(0, 0)
            collate(cells, all_of_them, part.keys, *named, hiding=hiding, is_padded=True).padded()

    return {"cpu": cpu_of(make_batches), "num_cells": len(rows)}


def cpu_of(work: Callable[[], object]) -> float:
    """The second run: the first compiles, or reads what was compiled."""
    work()
    before = time.process_time()
    work()
    return time.process_time() - before


if __name__ == "__main__":
    task, path = sys.argv[1], Path(sys.argv[2])
    print(json.dumps(bin_cells(path) if task == "bin" else tokens_of(task, path)))
