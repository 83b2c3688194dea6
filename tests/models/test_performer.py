import pytest
import torch
from torch.nn import functional as F

from vcpipe.config.model import Transformer
from vcpipe.models.performer import PerformerEncoder, linear_attention, orthogonal_features

SIZE = Transformer(hidden_dim=16, num_layers=2, num_heads=4, ffn_dim=16, dropout=0.0)
REAL = torch.arange(9) < torch.tensor([9, 5, 7])[:, None]


@pytest.fixture
def heads() -> list[torch.Tensor]:
    """Queries, keys and values of 3 cells, 2 heads, 9 tokens."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 2, 9, 8, generator=generator, dtype=torch.float64) for _ in range(3)]


def features(number: int, seed: int = 1) -> torch.Tensor:
    return orthogonal_features(number, 8, torch.Generator().manual_seed(seed)).double()


def test_with_many_features_it_is_near_softmax_attention(heads):
    q, k, v = heads[0] / 4, heads[1] / 2, heads[2]
    exact = F.scaled_dot_product_attention(q, k, v, REAL[:, None, None])
    errors = [
        float((linear_attention(q, k, v, REAL, features(number)) - exact).square().mean().sqrt())
        for number in (64, 1024, 16384)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.01


def test_weights_are_those_of_random_features_by_hand(heads):
    q, k, v = (its[0, 0] for its in heads)
    w = features(32)

    def phi(x):
        x = x / 8**0.25
        return (x @ w.T - x.square().sum(1, keepdim=True) / 2).exp()

    weights = phi(q) @ phi(k).T
    expected = weights / weights.sum(1, keepdim=True) @ v
    made = linear_attention(*(its[:1, :1] for its in heads), None, w)
    torch.testing.assert_close(made[0, 0], expected)


def test_keys_far_from_every_query_do_not_underflow(heads):
    q, k, v = (its.float() for its in heads)
    made = linear_attention(30 * q, -30 * q, v, REAL, features(16).float())
    assert bool(made.isfinite().all())
    assert float(made.abs().max()) <= float(v.abs().max()) * 1.01
    k.requires_grad_()
    linear_attention(30 * q, 30 * k, v, REAL, features(16).float()).sum().backward()
    assert bool(k.grad.isfinite().all())


def test_features_of_one_block_are_at_right_angles():
    made = features(8)
    products = made @ made.T
    assert float((products - products.diag().diag()).abs().max()) < 1e-4


@pytest.mark.parametrize("is_training", [True, False])
def test_padding_changes_nothing(is_training):
    torch.manual_seed(0)
    encoder = PerformerEncoder(SIZE, 32, seed=3).train(is_training)
    x = torch.randn(3, 9, 16)
    padded = torch.cat([x.masked_fill(~REAL[..., None], 7.0), torch.full((3, 4, 16), -9.0)], dim=1)
    longer = F.pad(REAL, (0, 4))
    torch.testing.assert_close(encoder(padded, longer)[:, :9][REAL], encoder(x, REAL)[REAL])


def test_the_seed_names_the_features_which_stand_among_the_weights():
    one, same, other = (PerformerEncoder(SIZE, 32, seed).state_dict() for seed in (3, 3, 4))
    names = [f"layers.{layer}.self_attn.features" for layer in range(2)]
    for name in names:
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])
    assert not torch.equal(one[names[0]], one[names[1]])
