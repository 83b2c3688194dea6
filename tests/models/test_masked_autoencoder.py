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
    names = ("genes", "values", "places", "starts", "shown", "shown_starts", "scored")
    return model(*(batch[name] for name in names), batch["target_genes"])


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
    model.norm.register_forward_hook(lambda _, __, output: seen.append(output))
    predicted(model, batch)
    changed = {
        "genes": torch.where(batch["chosen"], 4, cells["genes"]),
        "values": torch.where(batch["chosen"], 5.0, cells["values"]),
    }
    predicted(model, hide(cells | changed))
    assert len(seen[0]) == int((batch["real"] & ~batch["chosen"]).sum())
    assert torch.equal(seen[0], seen[1])


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
    model.query.register_forward_hook(lambda _, __, output: seen.append(output))
    model.decoder.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = hide(whole_cells())
    predicted(model, batch)
    encoded, queries, laid = seen
    is_hidden = batch["chosen"][batch["real"]]
    assert torch.equal(laid[~is_hidden], encoded)
    assert torch.equal(laid[is_hidden], queries)


def test_padding_and_the_cells_beside_change_nothing(model):
    cells, wider = whole_cells(), whole_cells(width=20)
    torch.testing.assert_close(model.embed(wider), model.embed(cells))
    for row, embedding in enumerate(model.embed(cells)):
        torch.testing.assert_close(model.embed(of_cell(cells, row))[0], embedding)
    torch.testing.assert_close(predicted(model, hide(wider)), predicted(model, hide(cells)))
    together, genes = hide(cells), cells["genes"].clone()
    genes[1:] = torch.where(cells["real"][1:], genes[1:] % 20 + 4, genes[1:])
    beside_others = hide(cells | {"genes": genes})
    mine = together["chosen"][0].sum()
    torch.testing.assert_close(
        predicted(model, together)[:mine], predicted(model, beside_others)[:mine]
    )
