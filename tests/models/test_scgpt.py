import pytest
import torch
from torch import Tensor

from vcpipe.config.model import Transformer
from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.models.scgpt import (
    SHARED,
    CellValueDecoder,
    GeneEncoder,
    MaskedValueModel,
    TransformerGenerator,
    ValueEncoder,
    with_reversed_gradient,
)

SIZE = Transformer(hidden_dim=16, num_layers=2, num_heads=4, ffn_dim=16, dropout=0.0)
EVERYTHING = MaskedValues(
    attention="generative",
    **{f"{part}_weight": 1.0 for part in ("mvc", "ecs", "dar", "cls", "cce")},
)


def tokens(lengths: list[int], num_tokens: int) -> dict[str, Tensor]:
    """Cells of some lengths, padded: the packed positions of their real tokens."""
    place = torch.arange(len(lengths) * num_tokens).view(len(lengths), num_tokens)
    places = [its[:length] for its, length in zip(place, lengths, strict=True)]
    generator = torch.Generator().manual_seed(0)
    return {
        "genes_BT": torch.randint(9, place.shape, generator=generator),
        "values_BT": torch.randint(0, 6, place.shape, generator=generator).float(),
        "places_N": torch.cat(places),
        "starts": torch.tensor([0, *lengths]).cumsum(0).int(),
        "scored_M": torch.tensor([1, 3]),
    }


def test_the_whole_human_generator_has_scgpts_176_tensors():
    with torch.device("meta"):
        state = TransformerGenerator(Transformer(), num_tokens=60697, pad_id=60694).state_dict()
    shared = {name: tensor for name, tensor in state.items() if name.startswith(SHARED)}

    # Counted in the real package: 176 tensors, 153 of them under the three prefixes.
    assert len(state) == 176
    assert sum(tensor.numel() for tensor in state.values()) == 51_859_459
    assert len(shared) == 153
    assert sum(tensor.numel() for tensor in shared.values()) == 50_278_400


def test_both_models_share_their_encoder_by_name_and_shape():
    pretrained = MaskedValueModel(SIZE, 10, 9).state_dict()
    finetuned = TransformerGenerator(SIZE, 10, 9).state_dict()

    for name, tensor in finetuned.items():
        if name.startswith(SHARED):
            assert pretrained[name].shape == tensor.shape


def test_the_heads_have_scgpts_names_and_shapes():
    model = MaskedValueModel(SIZE, 10, 9, EVERYTHING, num_batches=3, num_cell_types=5)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["flag_encoder.weight"] == (2, 16)
    assert shapes["mvc_decoder.gene2query.weight"] == (16, 16)
    assert shapes["mvc_decoder.W.weight"] == (16, 16)
    assert "mvc_decoder.W.bias" not in shapes
    for head, classes in (("cls_decoder", 5), ("grad_reverse_discriminator", 3)):
        its = {name for name in shapes if name.startswith(f"{head}.")}
        layers = [f"{head}._decoder.{place}" for place in (0, 2, 3, 5)] + [f"{head}.out_layer"]
        assert its == {f"{name}.{kind}" for name in layers for kind in ("weight", "bias")}
        assert shapes[f"{head}.out_layer.weight"] == (classes, 16)


def test_an_unperturbed_gene_adds_nothing_and_a_perturbed_one_does():
    model = TransformerGenerator(SIZE, 10, 9).eval()
    genes, control = torch.arange(8), torch.rand(2, 8)
    flags = torch.zeros(2, 8, dtype=torch.int64)
    flags[1, 3] = 1

    assert not model.pert_encoder(torch.zeros(1, dtype=torch.int64)).any()
    plain = model(genes, control, torch.zeros_like(flags))
    flagged = model(genes, control, flags)
    torch.testing.assert_close(flagged[0], plain[0])
    assert not torch.allclose(flagged[1], plain[1])


def test_the_head_sees_the_scored_tokens_only():
    model = MaskedValueModel(SIZE, 10, 9).eval()
    seen = []
    model.decoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    predicted = model(**tokens([6, 4], 6))
    assert predicted.values_M.shape == (2,)
    assert seen == [(2, 16)]


def test_padding_and_the_cells_beside_change_no_prediction():
    model = MaskedValueModel(SIZE, 10, 9, EVERYTHING, num_batches=3, num_cell_types=5).eval()
    both, known = tokens([6, 4], 9), torch.tensor([5, 3], dtype=torch.int32)
    both["scored_M"] = torch.tensor([5, 9])
    together = model(**both, known_B=known, gives_cells=True)
    for cell, length in enumerate((6, 4)):
        alone = tokens([length], length)
        for name in ("genes_BT", "values_BT"):
            alone[name] = both[name][cell : cell + 1, :length]
        alone["scored_M"] = torch.tensor([length - 1])
        its = model(**alone, known_B=known[cell : cell + 1], gives_cells=True)
        for ours, all_of_them in zip(its, together, strict=True):
            torch.testing.assert_close(ours, all_of_them[cell : cell + 1], atol=1e-5, rtol=1e-4)


def test_a_given_embedding_stands_where_cls_stood_and_learns_nothing_there():
    model, both = MaskedValueModel(SIZE, 10, 9).eval(), tokens([6, 4], 6)
    seen, starts = [], both["starts"][:-1].long()
    model.transformer_encoder.layers[0].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    found = model(**both, gives_cells=True)
    first, second = seen
    assert torch.equal(second[starts], found.cells_BD)
    others = torch.ones(len(first), dtype=torch.bool).index_fill(0, starts, False)
    assert torch.equal(first[others], second[others])
    assert not torch.allclose(found.values_given_cells_M, found.values_M)
    (grad,) = torch.autograd.grad(
        found.values_given_cells_M.sum(), found.cells_BD, allow_unused=True
    )
    assert grad is None


def test_cells_of_one_length_are_predicted_alike_packed_and_dense():
    model, both = MaskedValueModel(SIZE, 10, 9).eval(), tokens([5, 5], 5)
    dense = model(**both)
    longer = {
        name: torch.nn.functional.pad(both[name], (0, 2)) for name in ("genes_BT", "values_BT")
    }
    places_N = both["places_N"] + 2 * (both["places_N"] // 5)
    packed = model(**(both | longer | {"places_N": places_N}))
    torch.testing.assert_close(packed, dense)


def test_a_bin_is_encoded_as_any_number_is_and_learned_alike():
    torch.manual_seed(0)
    plain = ValueEncoder(16, 0.0).double()
    binned = ValueEncoder(16, 0.0, range(-1, 6)).double()
    binned.load_state_dict(plain.state_dict())
    values = torch.randint(-1, 6, (40,)).double()
    for encoder in (plain, binned):
        encoder(values).square().sum().backward()
    assert torch.equal(plain(values), binned(values))
    for one, other in zip(plain.parameters(), binned.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("num_genes", [9, 50])
def test_a_cells_embedding_predicts_values_as_scgpts_mvc_does(num_genes):
    """The product is taken in another order, and queries are shared where genes are fewer."""
    torch.manual_seed(0)
    encoder, decoder = GeneEncoder(num_genes, 16, 0).double(), CellValueDecoder(16).double()
    cells_BD = torch.randn(3, 16, dtype=torch.float64)
    genes_M, cell_M = torch.randint(1, num_genes, (20,)), torch.arange(20) % 3
    found = decoder(cells_BD, encoder, genes_M, cell_M)
    query_MD = decoder.W(torch.sigmoid(decoder.gene2query(encoder(genes_M))))
    torch.testing.assert_close(found, (query_MD * cells_BD[cell_M]).sum(-1))


def test_a_reversed_gradient_leaves_the_numbers_as_they_are():
    x = torch.randn(5, requires_grad=True)
    weight = torch.randn(5)
    out = with_reversed_gradient(x)
    (out * weight).sum().backward()
    assert torch.equal(out, x)
    assert torch.equal(x.grad, -weight)


def test_an_embedding_is_the_output_at_cls():
    model, both = MaskedValueModel(SIZE, 10, 9).eval(), tokens([6, 4], 6)
    batch = {"genes": both["genes_BT"], "values": both["values_BT"], "places": both["places_N"]}
    found = model.embed(batch | {"starts": both["starts"]})
    torch.testing.assert_close(found, model(**both).cells_BD)


def test_with_input_bins_the_encoder_sees_quantiles_and_the_decoder_values():
    torch.manual_seed(0)
    model, plain = TransformerGenerator(SIZE, 10, 9, 51).eval(), TransformerGenerator(SIZE, 10, 9)
    plain.load_state_dict(model.state_dict())
    genes_T, flags_BT = torch.arange(8), torch.zeros(2, 8, dtype=torch.int64)
    values_BT = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0.0]]).repeat(2, 1)
    seen, decoded = [], []
    model.value_encoder.register_forward_hook(lambda *args: seen.append(args[1][0]))
    model.decoder.register_forward_hook(lambda *args: decoded.append(args[1][1]))
    out_BT = model(genes_T, values_BT, flags_BT)
    assert seen[0][0].tolist() == [0, 1, 10, 20, 30, 40, 50, 0]
    assert decoded[0] is values_BT
    assert not torch.allclose(out_BT, plain.eval()(genes_T, values_BT, flags_BT))
    # Another depth is another scale, and the same bins.
    model(genes_T, values_BT.sqrt(), flags_BT)
    torch.testing.assert_close(seen[1], seen[0])
