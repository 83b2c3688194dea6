import numpy as np
import pytest
import torch

from vcpipe.config.model import Transformer
from vcpipe.config.training import Optimizer
from vcpipe.models.embedding_rows import keep_rows
from vcpipe.models.scgpt import TransformerGenerator
from vcpipe.training.optimisers import build_optimizer

SIZE = Transformer(hidden_dim=16, num_layers=1, num_heads=2, ffn_dim=16, dropout=0.0)
NUM_TOKENS, PAD_ID = 50, 48
TOKENS = np.array([3, 41, 7, 30, 12])


@pytest.mark.parametrize(
    "optimizer", [Optimizer(lr=0.01), Optimizer(name="adamw", lr=0.01, weight_decay=0.1)]
)
def test_training_the_rows_of_the_data_is_training_all_of_them(optimizer):
    """Five updates with clipped gradients, of which the other rows get none."""
    torch.manual_seed(0)
    whole, part = (TransformerGenerator(SIZE, NUM_TOKENS, PAD_ID) for _ in range(2))
    part.load_state_dict(whole.state_dict())
    rows = keep_rows(part, "encoder.embedding", TOKENS)
    assert part.encoder.embedding.num_embeddings == len(TOKENS) + 1
    ids = torch.from_numpy(TOKENS), torch.from_numpy(rows.places(TOKENS))
    optimizers = [build_optimizer(model, optimizer) for model in (whole, part)]
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        control, target = torch.rand(2, 4, len(TOKENS), generator=generator)
        flags = torch.randint(2, (4, len(TOKENS)), generator=generator)
        norms = []
        for model, genes, its in zip((whole, part), ids, optimizers, strict=True):
            its.zero_grad()
            (model(genes, control, flags) - target).square().mean().backward()
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1))
            its.step()
        torch.testing.assert_close(*norms, rtol=1e-6, atol=0)
    expected = whole.state_dict()
    found = rows.filled(part.state_dict())
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-7)
    others = np.setdiff1d(np.arange(NUM_TOKENS), TOKENS)
    assert torch.equal(found["encoder.embedding.weight"][others], rows.whole[others])


def test_padding_stays_padding():
    model = TransformerGenerator(SIZE, NUM_TOKENS, PAD_ID)
    rows = keep_rows(model, "encoder.embedding", np.array([3, PAD_ID, 7]))
    assert rows.ids_U.tolist() == [3, 7, PAD_ID]
    assert model.encoder.embedding.padding_idx == 2
    assert rows.places(np.array([PAD_ID, 3])).tolist() == [2, 0]
