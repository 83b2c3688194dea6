from dataclasses import replace

import pytest
import torch

from tests.gene_batches import (
    MASK_VALUE,
    NUM_BINS,
    NUM_TOKENS,
    PAD,
    SIZE,
    TOKENS,
    whole_cells,
)
from vcpipe.models import gene_tokens
from vcpipe.models.gene_tokens import (
    BinEmbedding,
    GeneEmbedding,
    GeneHead,
    NumberEmbedding,
    Pooling,
    TokenEmbedding,
    cells_of,
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_tokens_that_are_no_genes_have_no_probability():
    head = GeneHead(SIZE, TOKENS)
    shares = head.logits(torch.randn(5, SIZE.hidden_dim)).softmax(-1)
    assert (shares[:, list(TOKENS.special_ids)] == 0).all()
    torch.testing.assert_close(shares.sum(-1), torch.ones(5))


def test_losses_of_many_tokens_and_their_gradients_are_those_of_the_definition(monkeypatch):
    """Made in parts whose logits are thrown away, or at once."""
    head = GeneHead(SIZE, TOKENS).double()
    x = torch.randn(10, SIZE.hidden_dim, dtype=torch.float64, requires_grad=True)
    genes = torch.randint(4, NUM_TOKENS, (10,))
    logits = head.out(head.transform(x))[:, 4:]
    expected = -logits.log_softmax(-1)[torch.arange(10), genes - 4]
    (slope,) = torch.autograd.grad(expected.sum(), x)
    for together in (100, 3):
        monkeypatch.setattr(gene_tokens, "TOGETHER", together)
        losses = head.losses(x, genes)
        # Logits are cast to float32 before the softmax.
        torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-6)
        (found,) = torch.autograd.grad(losses.sum(), x)
        torch.testing.assert_close(found, slope, rtol=1e-4, atol=1e-6)


def test_every_bin_has_a_vector_and_what_is_no_bin_shares_one():
    embedding = BinEmbedding(8, NUM_BINS)
    bins = embedding(torch.arange(NUM_BINS, dtype=torch.float32))
    assert len(torch.unique(bins, dim=0)) == NUM_BINS
    others = embedding(torch.tensor([MASK_VALUE, -2.0, NUM_BINS]))
    assert len(torch.unique(others, dim=0)) == 1
    assert not (bins == others[0]).all(-1).any()


def test_a_hidden_number_is_no_number():
    embedding = NumberEmbedding(8, MASK_VALUE)
    hidden, zero = embedding(torch.tensor([MASK_VALUE, 0.0]))
    torch.testing.assert_close(hidden, embedding.hidden_D)
    assert not torch.allclose(hidden, zero)


@pytest.mark.parametrize("uses_values", [True, False])
def test_values_are_seen_only_where_they_are_used(uses_values):
    embedding = TokenEmbedding(SIZE, replace(TOKENS, uses_values=uses_values))
    batch = whole_cells()
    other = batch | {"values": (batch["values"] + 1).clamp(max=NUM_BINS - 1)}
    same = torch.equal(embedding(cells_of(batch)), embedding(cells_of(other)))
    assert same != uses_values


@pytest.mark.parametrize("num_positions", [0, 13])
def test_the_order_of_tokens_is_seen_only_where_places_are_learned(num_positions):
    embedding = TokenEmbedding(SIZE, replace(TOKENS, num_positions=num_positions))
    batch = whole_cells((9, 13))
    order = torch.tensor([*range(8, -1, -1), *range(21, 8, -1)])
    cells = cells_of(batch)
    turned = cells._replace(genes_N=cells.genes_N[order], values_N=cells.values_N[order])
    here, there = embedding(cells)[order], embedding(turned)
    assert torch.allclose(here, there) == (num_positions == 0)


@pytest.mark.parametrize("width", [SIZE.hidden_dim, 5])
def test_genes_begin_with_their_pretrained_vectors_of_any_width(width):
    embedding = GeneEmbedding(SIZE.hidden_dim, replace(TOKENS, vector_width=width))
    vectors = 40 * torch.randn(NUM_TOKENS, width)
    found = torch.arange(NUM_TOKENS) > 9
    embedding.begin_with(vectors, found)
    weight = embedding.embedding.weight
    assert torch.equal(weight[found], vectors[found])
    assert not weight[PAD].any()
    assert 20 < weight[4:10].std() < 60
    assert embedding(torch.arange(4)).shape == (4, SIZE.hidden_dim)


@pytest.mark.parametrize("lengths", [(2, 3), (3, 3)])
def test_a_cell_is_the_output_at_its_first_token_or_the_mean_of_its_own(lengths):
    cells = cells_of(whole_cells(lengths))
    x = torch.randn(sum(lengths), 4)
    first, second = x.split(lengths)
    expected = torch.stack([first.mean(0), second.mean(0)])
    torch.testing.assert_close(Pooling("mean")(x, cells), expected)
    assert torch.equal(Pooling("cls")(x, cells), torch.stack([first[0], second[0]]))
