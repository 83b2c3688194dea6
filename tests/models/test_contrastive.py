import math

import pytest
import torch
from torch.nn import functional as F

from vcpipe.config.model import Transformer
from vcpipe.config.objectives.contrastive import Contrastive
from vcpipe.models.contrastive import LARGEST_LOGIT_SCALE, ContrastiveModel, View, sinusoids

SIZE = Transformer(
    hidden_dim=16, num_layers=2, num_heads=2, ffn_dim=16, dropout=0.0, norm="pre", activation="gelu"
)
NUM_TOKENS = [20, 12]  # of two species
HIDING = {"masking_rate": 0.3, "mlm_loss_weight": 1.0}
ENCODINGS = ["rank_encoding", "value_encoding"]


def built(encoding="rank_encoding", vectors=None, num_tokens=NUM_TOKENS, **settings):
    torch.manual_seed(0)
    config = Contrastive(input_encoding=encoding, **settings)
    model = ContrastiveModel(SIZE, config, num_tokens, vectors).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


def view(num_cells=3, num_tokens=6, seed=1, hides=False) -> View:
    """<cls>, then genes in the order of their values."""
    generator = torch.Generator().manual_seed(seed)
    genes = torch.stack(
        [torch.randperm(9, generator=generator)[:num_tokens] + 3 for _ in range(num_cells)]
    )
    genes[:, 0] = 0
    values = torch.rand(num_cells, num_tokens, generator=generator).sort(1, descending=True)[0]
    hidden = places = None
    if hides:
        hidden = torch.zeros(num_cells, num_tokens, dtype=torch.bool)
        hidden[:, 3] = hidden[0, 5] = True
        values = values.masked_fill(hidden, -1)
        places = hidden.flatten().nonzero()[:, 0]
    return View(genes, values, hidden_BT=hidden, place_M=places)


HUMAN = torch.zeros(3, dtype=torch.int64)
MIXED = torch.tensor([0, 1, 0])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_cell_is_a_unit_vector_of_the_asked_width(encoding):
    model = built(encoding, projection_dim=5)
    first, second, factor, predicted = model(view(), view(seed=2, num_tokens=4), MIXED)
    for cells in (first, second):
        assert cells.shape == (3, 5)
        torch.testing.assert_close(cells.norm(dim=1), torch.ones(3))
    assert factor.item() == pytest.approx(math.exp(model.logit_scale.item()))
    assert predicted is None


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_padding_and_the_cells_beside_change_no_embedding(encoding):
    model, its = built(encoding), view()
    expected = model(its, its, MIXED)[0]
    real = torch.ones(3, 9, dtype=torch.bool)
    real[:, 6:] = False
    where = real.flatten().nonzero()[:, 0], torch.arange(0, 24, 6, dtype=torch.int32)
    padded = View(F.pad(its.genes_BT, (0, 3), value=1), F.pad(its.values_BT, (0, 3)), *where)
    torch.testing.assert_close(model(padded, its, MIXED)[0], expected)
    for cell in range(3):
        one = View(its.genes_BT[[cell]], its.values_BT[[cell]])
        alone = model(one, one, MIXED[[cell]])[0]
        torch.testing.assert_close(alone[0], expected[cell])


def test_embedding_is_what_the_contrast_compares():
    model, its = built("value_encoding"), view()
    batch = {"genes": its.genes_BT, "values": its.values_BT, "species": MIXED}
    expected = model(its, its, MIXED)[0]
    torch.testing.assert_close(model.embed(batch), expected)
    del batch["species"]
    torch.testing.assert_close(model.embed(batch), model(its, its, HUMAN)[0])


def test_the_same_id_is_another_gene_in_another_species():
    model, its = built(), view()
    human, mixed = model(its, its, HUMAN)[0], model(its, its, MIXED)[0]
    assert torch.equal(human[[0, 2]], mixed[[0, 2]])
    assert not torch.allclose(human[1], mixed[1], atol=1e-3)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_weight_has_a_gradient_whatever_the_species_of_a_batch(encoding):
    vectors = torch.randn(sum(NUM_TOKENS), 7)
    model = built(encoding, vectors, projection_dim=4, pretrained_embeddings=True, **HIDING).train()
    for adds_learned in (True, False):
        model.zero_grad()
        first, second, factor, predicted = model(
            view(hides=True), view(seed=2), HUMAN, adds_learned
        )
        ((first * second).sum() * factor + predicted.sum()).backward()
        assert all(weight.grad is not None for weight in model.parameters())


def test_order_matters_by_rank_and_not_by_value():
    its = view()
    turned = View(its.genes_BT.clone(), its.values_BT.clone())
    turned.genes_BT[:, [1, 4]] = its.genes_BT[:, [4, 1]]
    turned.values_BT[:, [1, 4]] = its.values_BT[:, [4, 1]]
    of_rank, of_value = built("rank_encoding"), built("value_encoding")
    assert not torch.allclose(
        of_rank(turned, its, HUMAN)[0], of_rank(its, its, HUMAN)[0], atol=1e-4
    )
    torch.testing.assert_close(of_value(turned, its, HUMAN)[0], of_value(its, its, HUMAN)[0])


def test_with_ranks_values_are_never_looked_at():
    model, its = built(), view()
    without = its._replace(values_BT=None)
    assert torch.equal(model(without, its, HUMAN)[0], model(its, its, HUMAN)[0])


def test_the_rank_of_a_hidden_gene_is_not_told():
    """Another value would have put it elsewhere: the embeddings and predictions stay the same."""
    model, its = built(**HIDING), view(num_cells=1, hides=True)
    moved = [0, 3, 1, 2, 4, 5]  # the gene at place 3 would come first
    hidden = its.hidden_BT[:, moved]
    places = hidden.flatten().nonzero()[:, 0]
    other = View(its.genes_BT[:, moved], None, hidden_BT=hidden, place_M=places)
    one = torch.zeros(1, dtype=torch.int64)
    found, expected = model(other, other, one), model(its, its, one)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[3], expected[3])
    shown = other._replace(hidden_BT=None)
    assert not torch.allclose(model(shown, shown, one)[0], expected[0], atol=1e-4)


def test_pretrained_vectors_are_all_that_a_gene_has_before_anything_is_learned():
    vectors = torch.randn(sum(NUM_TOKENS), 7)
    torch.manual_seed(0)
    config = Contrastive(pretrained_embeddings=True)
    model = ContrastiveModel(SIZE, config, NUM_TOKENS, vectors).eval()
    its = view()
    expected = model(its, its, MIXED, False)[0]
    assert torch.equal(model(its, its, MIXED, True)[0], expected)
    model.encoder.embedding.weight.data.normal_()
    assert torch.equal(model(its, its, MIXED, False)[0], expected)
    assert not torch.allclose(model(its, its, MIXED, True)[0], expected, atol=1e-3)
    assert "encoder.pretrained" in model.state_dict()


def test_the_factor_on_cosines_stays_below_a_hundred():
    model = built().train()
    model.logit_scale.data.fill_(9.0)
    assert model(view(), view(), HUMAN)[2].item() == pytest.approx(100, rel=1e-5)
    assert model.logit_scale.item() == pytest.approx(LARGEST_LOGIT_SCALE)


def test_places_are_encoded_by_sines_and_cosines():
    table = sinusoids(4, 5)
    assert table.shape == (4, 5)
    assert table[0].tolist() == [0, 1, 0, 1, 0]
    assert table[3, 0].item() == pytest.approx(math.sin(3))
    assert table[3, 3].item() == pytest.approx(math.cos(3 * 10_000 ** (-2 / 5)), rel=1e-5)
