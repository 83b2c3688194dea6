import pytest
import torch

from vcpipe.config.finetune import Perturbation
from vcpipe.config.model import Transformer
from vcpipe.models.scgpt import TransformerGenerator
from vcpipe.objectives.perturbation import perturbation

SIZE = Transformer(hidden_dim=32, num_layers=2, num_heads=4, ffn_dim=32, dropout=0.0)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    flags = torch.zeros(4, 12, dtype=torch.int64)
    flags[0, 3] = flags[1, 5] = flags[2, 7] = 1
    control = torch.rand(4, 12)
    perturbed = control + torch.roll(flags, 1, dims=1) * 2.0 - flags * control
    return {"genes": torch.arange(12), "control": control, "perturbed": perturbed, "flags": flags}


def test_the_loss_is_the_squared_error_over_all_genes_by_hand():
    def model(genes, control, flags):
        return control + flags

    batch = {
        "genes": torch.arange(3),
        "control": torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]),
        "flags": torch.tensor([[0, 1, 0], [0, 0, 0]]),
        "perturbed": torch.tensor([[1.0, 1.0, 3.0], [2.0, 1.0, 0.0]]),
    }
    loss, count = perturbation(model, batch, Perturbation(), torch.Generator())

    assert count == 6
    assert loss.item() == pytest.approx(2.0**2 + 2.0**2)


def test_errors_count_as_much_as_their_weights_by_hand():
    def model(genes, control, flags):
        return control + flags

    batch = {
        "genes": torch.arange(2),
        "control": torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
        "flags": torch.tensor([[0, 1], [0, 0]]),
        "perturbed": torch.tensor([[1.0, 1.0], [2.0, 1.5]]),
        "weights": torch.tensor([[0.5, 1.5], [1.0, 2.0]]),
    }
    loss, count = perturbation(model, batch, Perturbation(), torch.Generator())

    assert count == 4
    assert loss.item() == pytest.approx(1.5 * 2.0**2 + 1.0 * 2.0**2 + 2.0 * 0.5**2)


def test_one_batch_is_learned_by_heart(batch):
    torch.manual_seed(1)
    model = TransformerGenerator(SIZE, 14, 13)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        loss, count = perturbation(model, batch, Perturbation(), torch.Generator())
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()

    assert (loss / count).item() < 0.01


def test_the_answer_does_not_reach_the_model(batch):
    model = TransformerGenerator(SIZE, 14, 13).eval()
    seen = []
    model.register_forward_hook(lambda _, __, output: seen.append(output))

    perturbation(model, batch, Perturbation(), torch.Generator())
    perturbation(
        model, batch | {"perturbed": torch.zeros(4, 12)}, Perturbation(), torch.Generator()
    )

    assert torch.equal(seen[0], seen[1])
