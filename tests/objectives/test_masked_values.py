import pytest
import torch

from vcpipe.config.model import Transformer
from vcpipe.config.pretrain import MaskedValues
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.objectives.masked_values import MASK_VALUE, draw_mask, masked_values

SIZE = Transformer(hidden_dim=32, num_layers=2, num_heads=4, ffn_dim=32, dropout=0.0)
CONFIG = MaskedValues(mask_ratio=[0.5], max_seq_len=16)


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    real = torch.ones(4, 13, dtype=torch.bool)
    real[2, 9:] = False
    genes = torch.stack([torch.randperm(19)[:13] for _ in range(4)])
    values = torch.rand(4, 13) * 5
    genes[:, 0], values[:, 0] = 19, 0
    return {"genes": genes, "values": values * real, "real": real}


def test_hidden_values_do_not_reach_the_encoder(batch):
    """Whatever stands at a hidden position, the predictions are the same."""
    model = MaskedValueModel(SIZE, 21, 20).eval()
    hidden = draw_mask(batch["real"], [0.5], seeded())
    predicted = []
    model.decoder.register_forward_hook(lambda _, __, output: predicted.append(output))

    masked_values(model, batch, CONFIG, seeded())
    changed = batch | {"values": batch["values"].masked_fill(hidden, 123.0)}
    masked_values(model, changed, CONFIG, seeded())

    assert torch.equal(predicted[0], predicted[1])


def test_the_encoder_sees_the_sign_for_hidden_values(batch):
    model = MaskedValueModel(SIZE, 21, 20)
    seen = []
    model.value_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    hidden = draw_mask(batch["real"], [0.5], seeded())

    masked_values(model, batch, CONFIG, seeded())

    assert bool((seen[0][hidden] == MASK_VALUE).all())
    assert torch.equal(seen[0][~hidden], batch["values"][~hidden])


def test_the_mask_hides_the_asked_share_and_never_cls_or_padding(batch):
    hidden = draw_mask(batch["real"], [0.25], seeded())

    assert not hidden[:, 0].any()
    assert not hidden[~batch["real"]].any()
    assert hidden.sum(dim=1).tolist() == [3, 3, 2, 3]


def test_every_ratio_of_the_list_is_drawn(batch):
    counts = {int(draw_mask(batch["real"], [0.25, 0.75], seeded(i))[0].sum()) for i in range(20)}

    assert counts == {3, 9}


def test_the_loss_is_the_squared_error_over_hidden_values_by_hand():
    class Constant(torch.nn.Module):
        def forward(self, genes, values, real, scored):
            return torch.full((int(scored.sum()),), 2.0)

    batch = {
        "genes": torch.tensor([[9, 1, 2], [9, 3, 4]]),
        "values": torch.tensor([[0.0, 1.0, 4.0], [0.0, 2.0, 5.0]]),
        "real": torch.ones(2, 3, dtype=torch.bool),
    }
    loss, count = masked_values(Constant(), batch, MaskedValues(mask_ratio=[0.9]), seeded())

    assert count == 4
    assert loss.item() == pytest.approx((1 - 2) ** 2 + (4 - 2) ** 2 + (2 - 2) ** 2 + (5 - 2) ** 2)


def test_one_batch_is_learned_by_heart(batch):
    torch.manual_seed(1)
    model = MaskedValueModel(SIZE, 21, 20)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        loss, count = masked_values(model, batch, CONFIG, seeded())
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()

    assert (loss / count).item() < 0.02
