import math

import pytest
import torch

from tests.waits import Waits
from vcpipe.config.model import Transformer
from vcpipe.config.objectives.peaks_to_genes import PeaksToGenes
from vcpipe.models.peaks_to_genes import DECODERS, PeaksToGenesModel, Vocabulary
from vcpipe.objectives.peaks_to_genes import HEADS, peaks_to_genes

SIZE = Transformer(hidden_dim=32, num_layers=1, num_heads=4, ffn_dim=32, dropout=0.0)
NAMES = Vocabulary(
    num_peaks=20,
    pad_id=1,
    num_genes=15,
    num_chromosomes=5,
    num_batches=2,
    num_cell_types=3,
    genes_G=torch.arange(3, 15),
    chromosomes_G=torch.arange(12) % 5,
)
ASKED = [12, 4, 6, 1]


def where(lengths: list[int]) -> dict[str, torch.Tensor]:
    """Of 8 tokens of each cell, the real ones."""
    real = torch.arange(8) < torch.tensor(lengths)[:, None]
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    return {"places": real.flatten().nonzero()[:, 0], "starts": starts}


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Four cells; the last one has no label, and is asked for one gene that it does not show."""
    generator = torch.Generator().manual_seed(3)
    real = torch.arange(8) < torch.tensor([8, 5, 6, 4])[:, None]
    peaks = torch.stack([2 + torch.randperm(18, generator=generator)[:8] for _ in range(4)])
    peaks[:, 0] = 0
    targets = torch.randint(1, 5, (sum(ASKED),), generator=generator, dtype=torch.int32)
    targets[torch.rand(len(targets), generator=generator) < 0.5] = 0
    targets[-1] = 0
    return {
        "peaks": peaks.where(real, 1),
        "peak_chromosomes": peaks % 5,
        **where([8, 5, 6, 4]),
        "cell": torch.arange(4).repeat_interleave(torch.tensor(ASKED)),
        "gene": torch.cat([torch.randperm(12, generator=generator)[:n] for n in ASKED]),
        "targets": targets,
        "batch": torch.tensor([0, 1, 0, -1]),
        "cell_type": torch.tensor([0, 1, 2, -1]),
    }


def loss_of(model, batch, **settings):
    return peaks_to_genes(model, batch, PeaksToGenes(**settings), torch.Generator())


class Answers(torch.nn.Module):
    """A model that says what it is told."""

    def __init__(self, values_NO, types_BK=None):
        super().__init__()
        self.given = values_NO, types_BK

    def forward(self, *_):
        return self.given


@pytest.mark.parametrize("style", DECODERS)
@pytest.mark.parametrize("head", HEADS)
def test_one_batch_is_learned_by_heart(batch, style, head):
    settings = {
        "mvc_arch_style": style,
        "value_head": head,
        "use_batch_labels": True,
        "task_weight": {"cell_type": 1.0},
    }
    torch.manual_seed(1)
    model = PeaksToGenesModel(SIZE, PeaksToGenes(**settings), NAMES, n_bins=5, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
    for _ in range(120):
        loss, count = loss_of(model, batch, **settings)
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    assert loss.item() / count < 0.2


@pytest.mark.parametrize("settings", [{"encoder": "performer"}, {"input_norm": "batch"}])
def test_the_other_encoder_and_norm_learn_as_well(batch, settings):
    torch.manual_seed(1)
    model = PeaksToGenesModel(SIZE, PeaksToGenes(**settings), NAMES, n_bins=5, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
    for _ in range(120):
        loss, count = loss_of(model, batch, **settings)
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    assert loss.item() / count < 0.2


@pytest.mark.parametrize("encoder", ["transformer", "performer"])
@pytest.mark.parametrize("cell_emb_style", ["cls", "mean"])
def test_nothing_in_a_step_waits_for_the_device(batch, encoder, cell_emb_style):
    settings = {
        **{"encoder": encoder, "cell_emb_style": cell_emb_style, "value_head": "zero_inflated"},
        **{"use_batch_labels": True, "task_weight": {"cell_type": 1.0}},
    }
    model = PeaksToGenesModel(SIZE, PeaksToGenes(**settings), NAMES, n_bins=5, seed=0)
    with Waits() as waits:
        loss, count = loss_of(model, batch, **settings)
        (loss / count).backward()
    assert waits.found == []


def test_values_never_reach_the_model(batch):
    settings = {"value_head": "zero_inflated", "task_weight": {"cell_type": 1.0}}
    model = PeaksToGenesModel(SIZE, PeaksToGenes(**settings), NAMES, n_bins=5, seed=0).eval()
    seen = []
    model.register_forward_hook(lambda _, __, output: seen.append(output))
    loss_of(model, batch, **settings)
    changed = {"targets": batch["targets"] + 3, "cell_type": batch["cell_type"].flip(0)}
    loss_of(model, batch | changed, **settings)
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one, other)


def test_a_perfect_zero_inflated_prediction_scores_zero_however_many_genes_cells_are_asked(batch):
    targets = batch["targets"].float()
    perfect = torch.stack([targets, torch.where(targets == 0, 30.0, -30.0)], dim=1)
    # The number of a gene that is not detected is not scored.
    perfect[targets == 0, 0] = 77.0
    loss, count = loss_of(Answers(perfect), batch, value_head="zero_inflated")
    assert count == 4
    assert loss.item() < 1e-6


def test_the_zero_inflated_loss_by_hand():
    batch = {
        **{name: torch.zeros(2, 1) for name in ("peaks", "peak_chromosomes", "batch")},
        **{name: torch.arange(2) for name in ("places", "starts")},
        "cell": torch.tensor([0, 0, 1]),
        "gene": torch.tensor([0, 1, 0]),
        "targets": torch.tensor([2, 0, 0]),
    }
    values = torch.tensor([[5.0, -1.0], [9.0, 0.5], [9.0, 2.0]])
    weights = {"mvc": 3.0, "zero_bce": 0.5, "value_mse": 2.0}
    loss, count = loss_of(Answers(values), batch, value_head="zero_inflated", task_weight=weights)
    bce = [math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(-2.0))]
    first = 0.5 * (bce[0] + bce[1]) / 2 + 2.0 * (5 - 2) ** 2
    assert count == 2
    assert loss.item() == pytest.approx(3.0 * (first + 0.5 * bce[2]))


def test_every_cell_weighs_the_same_and_one_without_a_type_is_not_scored_for_it(batch):
    values = torch.zeros(sum(ASKED), 5)
    types = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0], [5.0, 1.0, 2.0]])
    loss, count = loss_of(Answers(values, types), batch, task_weight={"mvc": 0.5, "cell_type": 2})
    of_type = math.log(math.exp(9) + 2) - 9
    assert count == 4
    assert loss.item() == pytest.approx(4 * 0.5 * math.log(5) + 3 * 2 * of_type, rel=1e-5)


def test_sums_over_parts_of_a_batch_add_up_to_those_of_the_whole(batch):
    settings = {"value_head": "zero_inflated", "task_weight": {"cell_type": 0.7}}
    model = PeaksToGenesModel(SIZE, PeaksToGenes(**settings), NAMES, n_bins=5, seed=0).eval()
    whole, count = loss_of(model, batch, **settings)
    parts = []
    for cells in ([0], [1, 2, 3]):
        its = torch.isin(batch["cell"], torch.tensor(cells))
        part = {name: batch[name][its] for name in ("cell", "gene", "targets")}
        part["cell"] = part["cell"] - cells[0]
        rest = ("peaks", "peak_chromosomes", "batch", "cell_type")
        part |= {name: batch[name][cells] for name in rest}
        part |= where(batch["starts"].diff()[cells].tolist())
        parts.append(loss_of(model, part, **settings))
    assert sum(its for _, its in parts) == count
    torch.testing.assert_close(sum(loss for loss, _ in parts), whole)


def test_a_part_without_weight_moves_nothing_but_has_gradients(batch):
    """So that processes that share gradients need not know."""
    settings = {"task_weight": {"mvc": 0.0, "cell_type": 1.0}}
    model = PeaksToGenesModel(SIZE, PeaksToGenes(**settings), NAMES, n_bins=5, seed=0)
    loss_of(model, batch, **settings)[0].backward()
    assert not model.mvc_decoder.fc2.weight.grad.any()
    assert model.cls_decoder.out_layer.weight.grad.any()
