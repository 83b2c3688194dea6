import pytest
import torch

from tests.gene_batches import SIZE, TOKENS, of_cell, whole_cells, with_hidden
from vcpipe.models.gene_tokens import cells_of
from vcpipe.models.masked_genes import MaskedGeneModel


@pytest.fixture(params=["cls", "mean"])
def model(request):
    torch.manual_seed(0)
    return MaskedGeneModel(SIZE, TOKENS, request.param).eval()


def losses(model, batch):
    names = ("genes", "values", "places", "starts", "scored", "target_genes")
    return model(*(batch[name] for name in names))


def test_the_head_sees_the_chosen_tokens_only(model):
    seen = []
    model.gene_head.transform.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    batch = with_hidden(whole_cells(), hides_genes=True)
    assert losses(model, batch).shape == (int(batch["chosen"].sum()),)
    assert seen[0].shape == (int(batch["chosen"].sum()), SIZE.hidden_dim)


def test_what_is_hidden_does_not_reach_the_encoder(model):
    """Cells that differ in their hidden genes and values only are the same to the encoder."""
    cells, seen = whole_cells(), []
    hidden = with_hidden(cells, hides_genes=True)
    model.norm.register_forward_hook(lambda _, __, output: seen.append(output))
    first = losses(model, hidden)
    changed = {
        "genes": torch.where(hidden["chosen"], 4, cells["genes"]),
        "values": torch.where(hidden["chosen"], 5.0, cells["values"]),
    }
    second = losses(model, with_hidden(cells | changed, hides_genes=True))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(first, second)


def test_padding_and_the_cells_beside_change_nothing(model):
    cells = whole_cells()
    wider = whole_cells(width=20)
    torch.testing.assert_close(model.embed(wider), model.embed(cells))
    for row, embedding in enumerate(model.embed(cells)):
        torch.testing.assert_close(model.embed(of_cell(cells, row))[0], embedding)
    torch.testing.assert_close(
        losses(model, with_hidden(wider, hides_genes=True)),
        losses(model, with_hidden(cells, hides_genes=True)),
    )


def test_hidden_genes_of_a_cell_are_told_as_a_set(model):
    """Nothing tells one from another where places are unknown."""
    batch = with_hidden(whole_cells(), hides_genes=True)
    x = model._encode(cells_of(batch))
    cell = cells_of(batch).cell_N[batch["scored"]]
    for row in range(4):
        hidden = x[batch["scored"][cell == row]]
        torch.testing.assert_close(hidden, hidden[:1].expand_as(hidden))
