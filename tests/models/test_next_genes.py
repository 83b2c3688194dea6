from dataclasses import replace

import pytest
import torch

from tests.gene_batches import NUM_TOKENS, SIZE, TOKENS, of_cell, whole_cells, with_next
from vcpipe.models.gene_tokens import cells_of
from vcpipe.models.next_genes import NextGeneModel


@pytest.fixture(params=["cls", "mean"])
def model(request):
    torch.manual_seed(0)
    return NextGeneModel(SIZE, TOKENS, request.param).eval()


def losses(model, batch):
    return model(*(batch[name] for name in ("genes", "values", "places", "starts", "before")))


def outputs(model, cells):
    """What the encoder gives for each token, without that of the summary."""
    return model._encode(cells_of(cells))[0]


def test_a_token_sees_none_behind_it(model):
    cells = whole_cells((13, 13))
    changed = {name: tensor.clone() for name, tensor in cells.items()}
    changed["genes"][:, 7] = torch.tensor([4, 5])
    changed["values"][:, 7] = 9.0
    before, after = (outputs(model, its).unflatten(0, (2, 13)) for its in (cells, changed))
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


@pytest.mark.parametrize("place", [1, 5, 12])
def test_the_cell_embedding_sees_every_gene_and_every_value(model, place):
    cells = whole_cells((13, 13))
    before = model.embed(cells)
    for name, value in (("genes", 4), ("values", 0)):
        changed = cells[name].clone()
        changed[:, place] = value
        apart = (model.embed(cells | {name: changed}) - before).abs().max(-1).values
        assert (apart[cells[name][:, place] != value] > 1e-4).all()


def test_a_cell_is_embedded_as_in_training(model):
    seen = []
    model.bin_head.of_state.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    cells = whole_cells()
    losses(model, with_next(cells))
    assert torch.equal(seen[1], model.embed(cells))


def test_each_token_is_asked_for_the_gene_and_the_bin_behind_it(model):
    cells = with_next(whole_cells((5, 3)))
    found = losses(model, cells)
    x, cell = outputs(model, cells)[[0, 1, 2, 3, 5, 6]], model.embed(cells)
    rows, columns = [0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 0, 1]
    following = [column + 1 for column in columns]
    genes = cells["genes"][rows, following].long()
    bins = cells["values"][rows, following].long()
    vectors, head = model.embedding.gene(genes), model.bin_head
    for kind, states in (("", x), ("cell_", cell[rows])):
        of_genes = model.gene_head.logits(states).log_softmax(-1)
        expected = -of_genes[torch.arange(6), genes]
        torch.testing.assert_close(found[f"{kind}gene"], expected)
        inner = torch.nn.functional.gelu(head.of_state(states) + head.of_gene(vectors))
        of_bins = head.out(head.norm(inner)).log_softmax(-1)
        torch.testing.assert_close(found[f"{kind}bin"], -of_bins[torch.arange(6), bins])


def test_padding_and_the_cells_beside_change_nothing(model):
    cells, wider = whole_cells(), whole_cells(width=20)
    torch.testing.assert_close(model.embed(wider), model.embed(cells))
    for row, embedding in enumerate(model.embed(cells)):
        torch.testing.assert_close(model.embed(of_cell(cells, row))[0], embedding)
    narrow, wide = losses(model, with_next(cells)), losses(model, with_next(wider))
    for name, losses_N in narrow.items():
        torch.testing.assert_close(wide[name], losses_N)


def test_without_bins_only_genes_are_told():
    tokens = replace(TOKENS, num_bins=None, num_positions=NUM_TOKENS)
    model = NextGeneModel(SIZE, tokens, "cls", predicts_bins=False)
    assert set(losses(model, with_next(whole_cells()))) == {"gene", "cell_gene"}
