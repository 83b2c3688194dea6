import pytest
import torch

from vcpipe.config.model import Transformer
from vcpipe.errors import InputError
from vcpipe.models.scgpt import SHARED, MaskedValueModel, TransformerGenerator
from vcpipe.models.weights import take_weights

SIZE = Transformer(hidden_dim=16, num_layers=2, num_heads=4, ffn_dim=16, dropout=0.0)


@pytest.fixture
def pretrained() -> dict[str, torch.Tensor]:
    return MaskedValueModel(SIZE, 10, 9).state_dict()


@pytest.mark.parametrize(
    ("name", "in_proj", "out_proj"),
    [
        ("torch", "self_attn.in_proj_", "self_attn.out_proj."),
        ("flash-attn 1", "self_attn.Wqkv.", "self_attn.out_proj."),
        ("scGPT 0.2.5", "self_attn._impl.Wqkv.", "self_attn._impl.out_proj."),
    ],
)
def test_all_three_names_of_attention_are_read(pretrained, name, in_proj, out_proj):
    renamed = {
        key.replace("self_attn.in_proj_", in_proj).replace("self_attn.out_proj.", out_proj): value
        for key, value in pretrained.items()
    }
    model = TransformerGenerator(SIZE, 10, 9)

    loaded = take_weights(model, renamed, SHARED, "base")

    assert len(loaded) == sum(key.startswith(SHARED) for key in pretrained)
    for key in loaded:
        assert torch.equal(model.state_dict()[key], pretrained[key])


def test_a_missing_weight_is_named_instead_of_skipped(pretrained):
    del pretrained["value_encoder.norm.bias"]
    with pytest.raises(InputError, match=r"base lacks value_encoder\.norm\.bias; expected all"):
        take_weights(TransformerGenerator(SIZE, 10, 9), pretrained, SHARED, "base")


def test_a_wrong_prefix_is_an_error(pretrained):
    renamed = {f"module.{key}": value for key, value in pretrained.items()}
    with pytest.raises(InputError, match="lacks"):
        take_weights(TransformerGenerator(SIZE, 10, 9), renamed, SHARED, "base")


def test_a_weight_of_another_size_is_named_with_both_sizes(pretrained):
    with pytest.raises(InputError, match=r"embedding\.weight \(10, 16\) instead of \(12, 16\)"):
        take_weights(TransformerGenerator(SIZE, 12, 9), pretrained, SHARED, "base")
