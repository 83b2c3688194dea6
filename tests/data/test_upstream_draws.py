"""torch itself draws beside us: its generator, its permutations and its DataLoader."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vcpipe.data.upstream_draws import TorchGenerator, UpstreamDraws

NUM_CELLS, BATCH_SIZE, NUM_GENES, MAX_SEQ_LEN = 103, 16, 300, 24


@pytest.mark.parametrize("seed", [0, 42, 2**32 + 5, 2**61 + 12345])
def test_numbers_and_permutations_are_torchs(seed):
    ours, theirs = TorchGenerator(seed), torch.Generator().manual_seed(seed)
    for size in (1, 2, 1000, 18080):
        number = torch.empty((), dtype=torch.int64).random_(generator=theirs)
        assert ours.integer() == number.item()
        expected = torch.randperm(size, generator=theirs).numpy()
        assert np.array_equal(ours.permutation(size), expected)
    expected = torch.randperm(500, generator=theirs).numpy()
    assert np.array_equal(ours.permutation(500, 40), expected[:40])
    assert ours.integer() == torch.empty((), dtype=torch.int64).random_(generator=theirs).item()


def loop_of_scgpt(num_genes: int, num_epochs: int) -> tuple[list[list], list[list]]:
    """Its training loop, as far as it draws: cells and genes of each batch, by epoch."""
    torch.manual_seed(42)
    loader = DataLoader(range(NUM_CELLS), batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    cells, genes = [], []
    for _ in range(num_epochs):
        cells.append([]), genes.append([])
        for batch in loader:
            input_gene_ids = torch.arange(num_genes)
            if len(input_gene_ids) > MAX_SEQ_LEN:
                input_gene_ids = torch.randperm(len(input_gene_ids))[:MAX_SEQ_LEN]
            cells[-1].append(batch.tolist())
            genes[-1].append(input_gene_ids.tolist())
    return cells, genes


def test_every_epoch_has_the_cells_and_genes_of_scgpts_loop():
    cells, genes = loop_of_scgpt(NUM_GENES, 3)
    draws = UpstreamDraws(42, NUM_CELLS, BATCH_SIZE, NUM_GENES, MAX_SEQ_LEN)
    assert draws.num_steps == len(cells[0]) == 6
    # A resumed run asks for a later epoch first.
    for epoch in (1, 0, 2):
        its = draws.epoch(epoch)
        assert its.cells.reshape(-1, BATCH_SIZE).tolist() == cells[epoch]
        assert its.genes.tolist() == genes[epoch]


def test_where_all_genes_fit_only_cells_are_drawn():
    cells, _ = loop_of_scgpt(MAX_SEQ_LEN, 2)
    draws = UpstreamDraws(42, NUM_CELLS, BATCH_SIZE, MAX_SEQ_LEN, MAX_SEQ_LEN)
    assert draws.epoch(1).genes is None
    assert draws.epoch(1).cells.reshape(-1, BATCH_SIZE).tolist() == cells[1]
