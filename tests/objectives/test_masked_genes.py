import math
from dataclasses import replace

import pytest
import torch

from tests.gene_batches import SIZE, TOKENS, learn_by_heart, whole_cells, with_hidden
from tests.objectives.test_masked_values import Waits
from vcpipe.models.masked_genes import MaskedGeneModel
from vcpipe.objectives.masked_genes import masked_genes


def loss_of(model, batch):
    return masked_genes(model, batch, torch.Generator())


def test_the_loss_is_summed_over_the_chosen_tokens():
    model = MaskedGeneModel(SIZE, TOKENS, "cls")
    # Without a preference every one of the 20 genes has the same share.
    torch.nn.init.zeros_(model.gene_head.out.weight)
    torch.nn.init.zeros_(model.gene_head.out.bias)
    batch = with_hidden(whole_cells(), hides_genes=True)
    loss, count = loss_of(model, batch)
    assert count == int(batch["chosen"].sum())
    assert loss.item() == pytest.approx(count * math.log(20), rel=1e-5)


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(1)
    # Where places are unknown, the hidden genes of a cell can be told as a set only.
    model = MaskedGeneModel(SIZE, replace(TOKENS, num_positions=13), "cls")
    batch = with_hidden(whole_cells(), hides_genes=True)
    assert learn_by_heart(model, loss_of, batch) < 0.05


def test_nothing_in_a_step_waits_for_the_device():
    model, batch = MaskedGeneModel(SIZE, TOKENS, "mean"), whole_cells()
    batch = with_hidden(batch, hides_genes=True)
    with Waits() as waits:
        loss, count = loss_of(model, batch)
        (loss / count).backward()
        model.embed(batch)
    assert waits.found == []
