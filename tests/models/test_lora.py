import pytest
import torch
from torch import nn

from vcpipe.config.adapting import Lora
from vcpipe.config.model import Transformer
from vcpipe.errors import InputError
from vcpipe.models.lora import add_lora, freeze, merged
from vcpipe.models.scgpt import SHARED, TransformerGenerator

SIZE = Transformer(hidden_dim=16, num_layers=2, num_heads=4, ffn_dim=16, dropout=0.0)
LORA = Lora(rank=2, alpha=4)
LINEARS = [
    f"transformer_encoder.layers.{layer}.{name}"
    for layer in range(2)
    for name in ("self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2")
]


@pytest.fixture
def model() -> TransformerGenerator:
    torch.manual_seed(0)
    return TransformerGenerator(SIZE, 10, 9)


@pytest.fixture
def inputs() -> tuple:
    flags = torch.zeros(3, 9, dtype=torch.int64)
    flags[1, 4] = 1
    return torch.arange(9), torch.rand(3, 9, generator=torch.Generator().manual_seed(1)), flags


def moved(model: nn.Module) -> None:
    """Every change is something, as after some updates."""
    for name, weight in model.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(weight, std=0.3)


def test_all_linear_layers_of_the_encoder_change_and_nothing_does_at_first(model, inputs):
    before = model(*inputs)
    assert sorted(add_lora(model, LORA)) == sorted(LINEARS)
    assert torch.equal(model(*inputs), before)


def test_changes_that_are_merged_give_what_they_gave_beside_the_weights(model, inputs):
    names = model.state_dict().keys()
    before = model(*inputs)
    add_lora(model, LORA)
    moved(model)
    beside = model(*inputs)
    assert (beside - before).abs().max() > 1e-2

    state = merged(model.state_dict(), LORA)

    assert state.keys() == names
    plain = TransformerGenerator(SIZE, 10, 9)
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(*inputs), beside, rtol=1e-5, atol=1e-5)


def test_only_changes_and_what_is_not_frozen_learn(model, inputs):
    freeze(model, list(SHARED))
    add_lora(model, LORA)
    before = {name: its.detach().clone() for name, its in model.state_dict().items()}
    optimizer = torch.optim.Adam([its for its in model.parameters() if its.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(*inputs).square().mean().backward()
        optimizer.step()
    still = {name for name, its in model.state_dict().items() if torch.equal(its, before[name])}
    shared = {name for name in before if name.startswith(SHARED) and "lora" not in name}
    changes = {name for name in before if "lora" in name}
    assert shared <= still
    assert not changes & still
    assert "decoder.bias_decoder.fc.0.weight" not in still


def test_new_and_frozen_layers_are_not_there_to_be_changed(model):
    frozen = ["transformer_encoder.layers.0."]
    every = LORA.model_copy(update={"targets": ["*"]})
    chosen = add_lora(model, every, SHARED, frozen)
    assert sorted(chosen) == sorted(
        ["value_encoder.linear1", "value_encoder.linear2", *LINEARS[4:]]
    )
    with pytest.raises(InputError, match=r"'?decoder\.\*'?, which is the name of no pretrained"):
        add_lora(model, LORA.model_copy(update={"targets": ["decoder.*"]}), SHARED)


def test_the_bias_of_a_layer_with_a_change_stays_too(model):
    add_lora(model, LORA.model_copy(update={"targets": ["*.linear1", "*.in_proj"]}))
    learns = {name for name, its in model.named_parameters() if its.requires_grad}
    layer = "transformer_encoder.layers.0."
    assert not learns & {f"{layer}linear1.bias", f"{layer}self_attn.in_proj_bias"}
    assert f"{layer}linear1.lora.down" in learns
    # The value encoder has a layer of that name too.
    assert "value_encoder.linear1.lora.up" in learns
    assert f"{layer}linear2.weight" in learns


def test_dropout_of_changes_acts_in_training_only(model, inputs):
    add_lora(model, LORA.model_copy(update={"dropout": 0.5}))
    moved(model)
    model.train()
    assert not torch.equal(model(*inputs), model(*inputs))
    model.eval()
    assert torch.equal(model(*inputs), model(*inputs))


def test_a_name_that_no_layer_has_is_refused_with_those_that_there_are(model):
    with pytest.raises(InputError, match=r"has \*\.query, .*layers\.0\.self_attn\.in_proj"):
        add_lora(model, LORA.model_copy(update={"targets": ["*.query", "*.linear1"]}))
    with pytest.raises(InputError, match=r"freeze has encodr\., .*encoder\.embedding\.weight"):
        freeze(model, ["encodr."])
