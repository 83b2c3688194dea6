import pytest
import torch
from torch import nn

from vcpipe.config.model import Transformer
from vcpipe.models.layers import TransformerEncoder

SIZE = Transformer(hidden_dim=16, num_layers=3, num_heads=4, ffn_dim=24, dropout=0.0)


def torch_encoder(config: Transformer) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        config.hidden_dim,
        config.num_heads,
        config.ffn_dim,
        config.dropout,
        activation=config.activation,
        batch_first=True,
        norm_first=config.norm == "pre",
    )
    return nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_encoder_equals_torchs_own_in_double_precision(norm, activation):
    config = SIZE.model_copy(update={"norm": norm, "activation": activation})
    ours, theirs = TransformerEncoder(config).double(), torch_encoder(config).double()
    theirs.load_state_dict(ours.state_dict())
    x_BTD = torch.randn(2, 7, 16, dtype=torch.float64)
    real_BT = torch.ones(2, 7, dtype=torch.bool)
    real_BT[0, 5:] = False

    expected = theirs(x_BTD, src_key_padding_mask=~real_BT)

    torch.testing.assert_close(ours(x_BTD, real_BT)[real_BT], expected[real_BT])


def test_padding_does_not_change_a_cell():
    encoder = TransformerEncoder(SIZE).eval()
    x_BTD = torch.randn(1, 5, 16)
    padded = torch.cat([x_BTD, torch.randn(1, 3, 16)], dim=1)
    real_BT = torch.tensor([[True] * 5 + [False] * 3])

    torch.testing.assert_close(encoder(padded, real_BT)[:, :5], encoder(x_BTD))


def test_padding_comes_out_as_zeros():
    encoder = TransformerEncoder(SIZE).eval()
    real_BT = torch.tensor([[True] * 5 + [False] * 3, [True] * 8])
    out_BTD = encoder(torch.randn(2, 8, 16), real_BT)
    assert not out_BTD[~real_BT].any()
    assert out_BTD[real_BT].all()


def test_a_causal_token_depends_on_those_before_it_only():
    encoder = TransformerEncoder(SIZE).eval()
    x_BTD = torch.randn(2, 7, 16)
    changed = x_BTD.clone()
    changed[:, 4] += 1
    real_BT = torch.tensor([[True] * 6 + [False], [True] * 7])
    for real in (None, real_BT):
        before, after = encoder(x_BTD, real, True), encoder(changed, real, True)
        torch.testing.assert_close(before[:, :4], after[:, :4])
        assert not torch.allclose(before[:, 5], after[:, 5])
    torch.testing.assert_close(
        encoder(x_BTD, real_BT, True)[real_BT], encoder(x_BTD, None, True)[real_BT]
    )


def test_a_cell_does_not_depend_on_the_cells_beside_it():
    encoder = TransformerEncoder(SIZE).eval()
    x_BTD = torch.randn(2, 6, 16)
    real_BT = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    together = encoder(x_BTD, real_BT)
    torch.testing.assert_close(together[:1, :4], encoder(x_BTD[:1, :4]))
    torch.testing.assert_close(together[1:], encoder(x_BTD[1:]))


def test_gradients_are_those_of_padded_attention():
    """Through torch's own encoder, with its mask."""
    ours, theirs = TransformerEncoder(SIZE).double(), torch_encoder(SIZE).double()
    theirs.load_state_dict(ours.state_dict())
    real_BT = torch.tensor([[True] * 3 + [False] * 4, [True] * 7])
    x_BTD = torch.randn(2, 7, 16, dtype=torch.float64)
    grads = []
    for encoder in (ours, theirs):
        mask = {"src_key_padding_mask": ~real_BT} if encoder is theirs else {"real_BT": real_BT}
        encoder(x_BTD, **mask)[real_BT].square().sum().backward()
        grads.append({name: weight.grad for name, weight in encoder.named_parameters()})
    torch.testing.assert_close(*grads)


def test_dropout_acts_in_training_only():
    encoder = TransformerEncoder(SIZE.model_copy(update={"dropout": 0.5}))
    x_BTD = torch.randn(1, 5, 16)

    assert not torch.equal(encoder(x_BTD), encoder(x_BTD))
    encoder.eval()
    assert torch.equal(encoder(x_BTD), encoder(x_BTD))
