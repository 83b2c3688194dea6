import pytest
import torch

from tests.gene_batches import SIZE, TOKENS, learn_by_heart, whole_cells, with_hidden
from tests.objectives.test_masked_values import Waits
from vcpipe.config.objectives.masked_autoencoder import MaskedAutoencoder
from vcpipe.models.masked_autoencoder import MaskedAutoencoderModel
from vcpipe.objectives.masked_autoencoder import masked_autoencoder


def loss_of(model, batch):
    return masked_autoencoder(model, batch, torch.Generator())


def test_the_loss_is_the_squared_error_over_hidden_values_by_hand():
    def model(genes, values, places, starts, shown, shown_starts, scored, target_genes):
        return torch.full((len(target_genes),), 2.0)

    batch = with_hidden(whole_cells(), hides_genes=False)
    loss, count = loss_of(model, batch)
    assert count == int(batch["chosen"].sum())
    assert loss.item() == pytest.approx(((batch["target_values"] - 2) ** 2).sum().item())


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(1)
    model = MaskedAutoencoderModel(SIZE, TOKENS, MaskedAutoencoder(decoder_layers=1))
    batch = with_hidden(whole_cells(), hides_genes=False)
    assert learn_by_heart(model, loss_of, batch) < 0.05


def test_nothing_in_a_step_waits_for_the_device():
    model = MaskedAutoencoderModel(SIZE, TOKENS, MaskedAutoencoder(decoder_layers=1))
    batch = with_hidden(whole_cells(), hides_genes=False)
    with Waits() as waits:
        loss, count = loss_of(model, batch)
        (loss / count).backward()
    assert waits.found == []
