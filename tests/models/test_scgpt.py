import torch

from vcpipe.config.model import Transformer
from vcpipe.models.scgpt import SHARED, MaskedValueModel, TransformerGenerator

SIZE = Transformer(hidden_dim=16, num_layers=2, num_heads=4, ffn_dim=16, dropout=0.0)


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
    scored = torch.zeros(2, 6, dtype=torch.bool)
    scored[0, 1] = scored[1, 2] = scored[1, 3] = True

    predicted = model(torch.randint(9, (2, 6)), torch.rand(2, 6), None, scored)

    assert predicted.shape == (3,)
    assert seen == [(3, 16)]
