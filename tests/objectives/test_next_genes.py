import pytest
import torch

from tests.gene_batches import SIZE, TOKENS, learn_by_heart, whole_cells, with_next
from tests.objectives.test_masked_values import Waits
from vcpipe.config.objectives.next_genes import NextGenes
from vcpipe.models.next_genes import NextGeneModel
from vcpipe.objectives.next_genes import next_genes


def test_the_parts_of_the_loss_have_the_weights_that_were_asked_for():
    def model(genes, values, places, starts, before):
        parts = {"gene": 1.0, "bin": 10.0, "cell_gene": 100.0, "cell_bin": 1000.0}
        return {name: torch.full((len(before),), value) for name, value in parts.items()}

    batch = with_next(whole_cells((3, 4)))
    settings = NextGenes(gene_loss_weight=2, expression_loss_weight=3, cell_loss_weight=0.5)
    loss, count = next_genes(model, batch, settings, torch.Generator())
    assert count == 2 + 3
    assert loss.item() == count * (2 * 1 + 3 * 10 + 0.5 * (2 * 100 + 3 * 1000))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_one_batch_is_learned_by_heart(pooling):
    """All but the first gene of each cell, which nothing foretells, from the tokens before."""
    torch.manual_seed(1)
    model, settings = NextGeneModel(SIZE, TOKENS, pooling), NextGenes(cell_loss_weight=0)

    def loss_of(model, batch):
        return next_genes(model, batch, settings, torch.Generator())

    batch = with_next(whole_cells((9, 13)))
    assert learn_by_heart(model, loss_of, batch) < 0.25


def test_the_cell_embedding_learns_the_bins_of_its_genes():
    torch.manual_seed(1)
    model = NextGeneModel(SIZE, TOKENS, "cls", predicts_genes=False)
    settings = NextGenes(gene_loss_weight=0)

    def loss_of(model, batch):
        return next_genes(model, batch, settings, torch.Generator())

    batch = with_next(whole_cells((9, 13)))
    learn_by_heart(model, loss_of, batch)
    names = ("genes", "values", "places", "starts", "before")
    losses = model(*(batch[name] for name in names))
    assert losses["cell_bin"].mean().item() < 0.05


def test_nothing_in_a_step_waits_for_the_device():
    model, batch = NextGeneModel(SIZE, TOKENS, "cls"), with_next(whole_cells())
    with Waits() as waits:
        loss, count = next_genes(model, batch, NextGenes(), torch.Generator())
        (loss / count).backward()
    assert waits.found == []
