import pytest
import torch

from vcpipe.config.model import Transformer
from vcpipe.errors import InputError
from vcpipe.models.scgpt import SHARED, MaskedValueModel, TransformerGenerator
from vcpipe.models.weights import rows_by_name, take_weights

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

    taken = take_weights(model, renamed, SHARED, "base")

    assert len(taken.loaded) == sum(key.startswith(SHARED) for key in pretrained)
    for key in taken.loaded:
        assert torch.equal(model.state_dict()[key], pretrained[key])


def test_a_missing_weight_is_named_instead_of_skipped(pretrained):
    del pretrained["value_encoder.norm.bias"]
    with pytest.raises(InputError, match=r"base lacks value_encoder\.norm\.bias; expected all"):
        take_weights(TransformerGenerator(SIZE, 10, 9), pretrained, SHARED, "base")


def test_a_wrong_prefix_is_an_error_that_names_it(pretrained):
    renamed = {f"module.{key}": value for key, value in pretrained.items()}
    with pytest.raises(InputError, match=r"lacks .*They are there behind 'module\.'; save them"):
        take_weights(TransformerGenerator(SIZE, 10, 9), renamed, SHARED, "base")
    some = {key: value for key, value in renamed.items() if not key.endswith("norm.bias")}
    with pytest.raises(InputError) as caught:
        take_weights(TransformerGenerator(SIZE, 10, 9), some, SHARED, "base")
    assert "They are there" not in str(caught.value)


def test_of_the_whole_human_checkpoint_153_tensors_are_taken():
    """Counted in the real package: 153 tensors, 50,278,400 weights; its names are flash-attn's."""
    size, num_tokens, pad_id = Transformer(), 60697, 60694
    with torch.device("meta"):
        state = MaskedValueModel(size, num_tokens, pad_id).state_dict()
        model = TransformerGenerator(size, num_tokens, pad_id)
    released = {name.replace("in_proj_", "Wqkv."): tensor for name, tensor in state.items()}
    taken = take_weights(model, released, SHARED, "base")
    assert len(taken.loaded) == 153
    assert taken.num_weights == 50_278_400
    assert taken.lines()[0] == "loaded 153 tensors, 50,278,400 weights from base"


def test_a_weight_of_another_size_is_named_with_both_sizes(pretrained):
    with pytest.raises(InputError, match=r"embedding\.weight \(10, 16\) instead of \(12, 16\)"):
        take_weights(TransformerGenerator(SIZE, 12, 9), pretrained, SHARED, "base")


def test_nothing_is_skipped_silently(pretrained):
    model = TransformerGenerator(SIZE, 10, 9)
    lines = "\n".join(take_weights(model, pretrained, SHARED, "base").lines())
    assert "tensors, " in lines
    assert "left out of base: decoder.fc.0.weight" in lines
    assert "not loaded, they keep initial values: pert_encoder.weight" in lines


def test_rows_are_found_by_name_and_others_keep_their_initial_values(pretrained):
    rows = rows_by_name({"a": 0, "new": 1, "b": 2}, {"b": 0, "a": 5})
    assert rows.tolist() == [5, -1, 0]
    model, table = MaskedValueModel(SIZE, 3, 1), "encoder.embedding.weight"
    initial = model.state_dict()[table].clone()
    taken = take_weights(model, pretrained, ("",), "base", {table: rows})
    filled = model.state_dict()[table]
    assert torch.equal(filled[0], pretrained[table][5])
    assert torch.equal(filled[1], initial[1])
    assert torch.equal(filled[2], pretrained[table][0])
    assert taken.rows == {table: (2, 3)}
    assert "2 of 3 rows found by name" in "\n".join(taken.lines())
    others = sum(tensor.numel() for name, tensor in pretrained.items() if name != table)
    assert taken.num_weights == others + 2 * 16
