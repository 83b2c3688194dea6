"""The parts of scGPT's objective beside those of the real scgpt 0.2.4, of the same batch."""

# B cells, T tokens of the longest

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.model import Transformer
from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.objectives.masked_values import masked_values

pytestmark = [
    pytest.mark.upstream,
    # Of torch's own encoder layers, where some tokens are padding.
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]

SIZE = Transformer(hidden_dim=16, num_layers=2, num_heads=4, ffn_dim=24, dropout=0.0)
NUM_TOKENS, PAD, CLS = 32, 31, 30
PARTS = ("mvc", "gen", "ecs", "dar", "cce")
CONFIG = MaskedValues(gen_from_update=0, **{f"{part}_weight": 1.0 for part in PARTS})


@pytest.fixture
def ours() -> MaskedValueModel:
    torch.manual_seed(0)
    return MaskedValueModel(SIZE, NUM_TOKENS, PAD, CONFIG, num_batches=3)


@pytest.fixture
def theirs(scgpt, ours) -> nn.Module:
    """TransformerModel with the same weights."""
    size = SIZE.hidden_dim, SIZE.num_heads, SIZE.ffn_dim, SIZE.num_layers
    model = scgpt.model.TransformerModel(
        *(NUM_TOKENS, *size),
        vocab={"<pad>": PAD},
        dropout=SIZE.dropout,
        do_mvc=True,
        do_dab=True,
        num_batch_labels=3,
        ecs_threshold=CONFIG.ecs_threshold,
    )
    missing, unexpected = model.load_state_dict(ours.state_dict(), strict=False)
    # It has a head for cell types, whether they are learned or not.
    assert all(name.startswith("cls_decoder.") for name in missing)
    assert not unexpected
    return model


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Four cells of 9, 6, 8 and 9 tokens, <cls> first; two values of each are hidden."""
    generator = torch.Generator().manual_seed(0)
    genes_BT = torch.stack([torch.randperm(30, generator=generator)[:9] for _ in range(4)])
    values_BT = torch.rand(4, 9, generator=generator)
    real_BT = torch.arange(9) < torch.tensor([9, 6, 8, 9])[:, None]
    genes_BT[:, 0], values_BT[:, 0] = CLS, 0
    hidden_BT = torch.zeros_like(real_BT)
    hidden_BT[:, [2, 5]] = True
    places = real_BT.flatten().nonzero().flatten()
    return {
        "genes": genes_BT.where(real_BT, PAD),
        "values": values_BT.masked_fill(hidden_BT, -1).where(real_BT, -2),
        "real": real_BT,
        "hidden": hidden_BT,
        "places": places,
        "starts": F.pad(real_BT.sum(1).cumsum(0), (1, 0)).int(),
        "scored": hidden_BT.flatten()[places].nonzero().flatten(),
        "target_values": values_BT[hidden_BT],
        "batch": torch.tensor([0, 2, 1, 0]),
        "update": 0,
    }


def part_of(model: nn.Module, batch: dict[str, Tensor], part: str) -> Tensor:
    """What a part adds to the mean."""
    alone = MaskedValues(gen_from_update=0)
    found = [
        masked_values(model, batch, config, torch.Generator())
        for config in (alone.model_copy(update={f"{part}_weight": 1.0}), alone)
    ]
    return (found[0][0] - found[1][0]) / found[1][1]


def test_each_part_is_scgpts(scgpt, ours, theirs, batch):
    """Dropout is off, so that the two embeddings that CCE compares are one."""
    read = batch["genes"], batch["values"], ~batch["real"]
    found = theirs(*read, CCE=True, ECS=True, MVC=True)
    mse, hidden_BT = scgpt.loss.masked_mse_loss, batch["hidden"]
    values_BT = torch.zeros(4, 9).masked_scatter(hidden_BT, batch["target_values"])
    with torch.no_grad():
        given = theirs.generate(found["cell_emb"], *read)
    expected = {
        "mvc": mse(found["mvc_output"], values_BT, hidden_BT),
        "gen": mse(given, values_BT, hidden_BT),
        "ecs": found["loss_ecs"],
        "dar": F.cross_entropy(found["dab_output"], batch["batch"]),
        "cce": found["loss_cce"],
    }
    assert expected.keys() == set(PARTS)
    for part, value in expected.items():
        torch.testing.assert_close(part_of(ours, batch, part), value, atol=1e-5, rtol=1e-5)


def test_all_parts_together_teach_what_they_teach_scgpt(scgpt, ours, theirs, batch):
    """But for the second pass, which its published model has for use, not for training."""
    found = theirs(batch["genes"], batch["values"], ~batch["real"], CCE=True, ECS=True, MVC=True)
    mse, hidden_BT = scgpt.loss.masked_mse_loss, batch["hidden"]
    values_BT = torch.zeros(4, 9).masked_scatter(hidden_BT, batch["target_values"])
    loss = sum(mse(found[name], values_BT, hidden_BT) for name in ("mlm_output", "mvc_output"))
    loss = loss + found["loss_ecs"] + found["loss_cce"]
    (loss + F.cross_entropy(found["dab_output"], batch["batch"])).backward()
    config = CONFIG.model_copy(update={"gen_weight": 0.0})
    whole, count = masked_values(ours, batch, config, torch.Generator())
    (whole / count).backward()
    its = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight.grad, its[name].grad, atol=1e-5, rtol=1e-4)
