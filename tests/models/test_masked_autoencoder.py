import pytest
import torch

from tests.gene_batches import SIZE, TOKENS, of_cell, whole_cells, with_hidden
from vcpipe.config.objectives.masked_autoencoder import MaskedAutoencoder
from vcpipe.models.masked_autoencoder import MaskedAutoencoderModel


@pytest.fixture(params=["cls", "mean"])
def model(request):
    torch.manual_seed(0)
    settings = MaskedAutoencoder(pooling=request.param, decoder_layers=1)
    return MaskedAutoencoderModel(SIZE, TOKENS, settings).eval()


def predicted(model, batch):
    names = ("genes", "values", "real", "chosen", "shown", "is_shown", "target_genes")
    return model(*(batch[name] for name in names))


def hide(cells):
    return with_hidden(cells, hides_genes=False)


def test_the_decoder_has_the_size_that_was_asked_for():
    settings = MaskedAutoencoder(decoder_dim=24, decoder_heads=3, decoder_layers=2)
    model = MaskedAutoencoderModel(SIZE, TOKENS, settings)
    assert [layer.self_attn.num_heads for layer in model.decoder.layers] == [3, 3]
    assert model.to_decoder.out_features == 24
    model = MaskedAutoencoderModel(SIZE, TOKENS, MaskedAutoencoder())
    assert model.to_decoder.out_features == SIZE.hidden_dim // 2
    assert [layer.self_attn.num_heads for layer in model.decoder.layers] == [SIZE.num_heads] * 4


def test_the_encoder_gets_the_tokens_that_are_not_hidden_and_no_more(model):
    cells, seen = whole_cells(), []
    batch = hide(cells)
    model.transformer_encoder.register_forward_hook(
        lambda _, inputs, output: seen.append((inputs[1], output))
    )
    predicted(model, batch)
    changed = {
        "genes": torch.where(batch["chosen"], 4, cells["genes"]),
        "values": torch.where(batch["chosen"], 5.0, cells["values"]),
    }
    predicted(model, hide(cells | changed))
    assert torch.equal(seen[0][0].sum(1), (batch["real"] & ~batch["chosen"]).sum(1))
    assert torch.equal(seen[0][1], seen[1][1])


def test_a_prediction_depends_on_which_gene_is_hidden_and_never_on_its_value(model):
    cells = whole_cells()
    batch = hide(cells)
    values = predicted(model, batch)
    others = {"values": torch.where(batch["chosen"], 5.0, cells["values"])}
    assert torch.equal(values, predicted(model, hide(cells | others)))
    swapped = batch | {"target_genes": batch["target_genes"] % 20 + 4}
    assert ((values - predicted(model, swapped)).abs() > 1e-5).all()


def test_shown_tokens_stand_at_their_own_places_before_the_decoder(model):
    seen = []
    model.to_decoder.register_forward_hook(lambda _, __, output: seen.append(output))
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = hide(whole_cells())
    predicted(model, batch)
    encoded, laid = seen
    for row in range(4):
        is_shown = batch["is_shown"][row]
        places = batch["shown"][row][is_shown]
        assert torch.equal(laid[row, places], encoded[row, is_shown])


def test_padding_and_the_cells_beside_change_nothing(model):
    cells, wider = whole_cells(), whole_cells(width=20)
    torch.testing.assert_close(model.embed(wider), model.embed(cells))
    for row, embedding in enumerate(model.embed(cells)):
        torch.testing.assert_close(model.embed(of_cell(cells, row))[0], embedding)
    torch.testing.assert_close(predicted(model, hide(wider)), predicted(model, hide(cells)))
    batch, place = hide(cells), 0
    for row, number in enumerate(batch["chosen"].sum(1).tolist()):
        alone = {name: batch[name][row : row + 1] for name in ("genes", "values", "real", "chosen")}
        alone |= {name: batch[name][row : row + 1] for name in ("shown", "is_shown")}
        alone["target_genes"] = batch["target_genes"][place : place + number]
        torch.testing.assert_close(
            predicted(model, alone), predicted(model, batch)[place : place + number]
        )
        place += number
