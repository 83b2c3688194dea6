import pytest
import torch

from vcpipe.config.model import Transformer
from vcpipe.config.pretrain import MaskedValues
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.objectives.masked_values import masked_values

SIZE = Transformer(hidden_dim=32, num_layers=2, num_heads=4, ffn_dim=32, dropout=0.0)
CONFIG = MaskedValues(mask_ratio=[0.5])
MASK_VALUE = -1.0


def loss_of(model, batch):
    return masked_values(model, batch, CONFIG, torch.Generator())


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    real = torch.ones(4, 13, dtype=torch.bool)
    real[2, 9:] = False
    genes = torch.stack([torch.randperm(19)[:13] for _ in range(4)])
    values = torch.rand(4, 13) * 5 * real
    genes[:, 0], values[:, 0] = 19, 0
    chosen = (torch.rand(4, 13) < 0.5) & real
    chosen[:, 0] = False
    return {
        "genes": genes,
        "values": values.masked_fill(chosen, MASK_VALUE),
        "real": real,
        "chosen": chosen,
        "target_values": values[chosen],
    }


def test_targets_do_not_reach_the_encoder(batch):
    """Whatever the hidden values are, the predictions are the same."""
    model = MaskedValueModel(SIZE, 21, 20).eval()
    predicted = []
    model.decoder.register_forward_hook(lambda _, __, output: predicted.append(output))
    loss_of(model, batch)
    loss_of(model, batch | {"target_values": batch["target_values"] + 100})
    assert torch.equal(predicted[0], predicted[1])


def test_the_encoder_sees_the_sign_for_hidden_values(batch):
    model = MaskedValueModel(SIZE, 21, 20)
    seen = []
    model.value_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss_of(model, batch)
    assert bool((seen[0][batch["chosen"]] == MASK_VALUE).all())
    assert bool((seen[0][~batch["chosen"]] >= 0).all())


def test_the_loss_is_the_squared_error_over_hidden_values_by_hand():
    class Constant(torch.nn.Module):
        def forward(self, genes, values, real, scored):
            return torch.full((int(scored.sum()),), 2.0)

    batch = {
        "genes": torch.tensor([[9, 1, 2], [9, 3, 4]]),
        "values": torch.tensor([[0.0, -1.0, -1.0], [0.0, -1.0, -1.0]]),
        "real": torch.ones(2, 3, dtype=torch.bool),
        "chosen": torch.tensor([[False, True, True], [False, True, True]]),
        "target_values": torch.tensor([1.0, 4.0, 2.0, 5.0]),
    }
    loss, count = loss_of(Constant(), batch)
    assert count == 4
    assert loss.item() == pytest.approx((1 - 2) ** 2 + (4 - 2) ** 2 + (2 - 2) ** 2 + (5 - 2) ** 2)


def test_one_batch_is_learned_by_heart(batch):
    torch.manual_seed(1)
    model = MaskedValueModel(SIZE, 21, 20)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        loss, count = loss_of(model, batch)
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()

    assert (loss / count).item() < 0.02
