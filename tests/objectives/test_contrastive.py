import math
from functools import partial

import numpy as np
import pytest
import torch

from tests.waits import Waits
from vcpipe.config.model import Transformer
from vcpipe.config.objectives.contrastive import Contrastive
from vcpipe.models.contrastive import ContrastiveModel
from vcpipe.objectives.contrastive import (
    across_and_within_panels,
    across_panels,
    contrastive,
    form,
    learned_are_added,
)

SIZE = Transformer(
    hidden_dim=32, num_layers=2, num_heads=2, ffn_dim=32, dropout=0.0, norm="pre", activation="gelu"
)
NUM_CELLS = 6


def alone(rows):
    return rows, 0


def loss_of(model, batch, config, gather=alone):
    return contrastive(model, batch, config, gather, torch.Generator())


def batch_of_six() -> dict:
    """Views of 9 and 7 tokens of 6 cells of two species; the last has no gene in the second."""
    generator = torch.Generator().manual_seed(0)
    made = {"species": torch.arange(NUM_CELLS) % 2, "update": 0}
    for name, length in (("first", 9), ("second", 7)):
        genes = torch.stack(
            [torch.randperm(20, generator=generator)[:length] + 3 for _ in range(NUM_CELLS)]
        )
        genes[:, 0] = 0
        real = torch.ones(NUM_CELLS, length, dtype=torch.bool)
        real[2, 5:] = False
        hidden = (torch.rand(NUM_CELLS, length, generator=generator) < 0.4) & real
        hidden[:, 0] = False
        values = torch.rand(NUM_CELLS, length, generator=generator).sort(1, descending=True)[0]
        targets = values[hidden]
        made |= {f"{name}_genes": genes, f"{name}_real": real, f"{name}_hidden": hidden}
        made |= {f"{name}_values": values.masked_fill(hidden, -1), f"{name}_targets": targets}
    made["second_real"][5, 1:] = False
    made["usable"] = torch.tensor([True] * 5 + [False])
    return told(made)


def told(batch: dict) -> dict:
    """With the places that the maker of a batch says beside its masks."""
    places = {"usable_places": batch["usable"].nonzero()[:, 0]}
    for name in ("first", "second"):
        for mask, what in (("real", "places"), ("hidden", "hidden_places")):
            if f"{name}_{mask}" in batch:
                places[f"{name}_{what}"] = batch[f"{name}_{mask}"].flatten().nonzero()[:, 0]
        starts = [0, *batch[f"{name}_real"].sum(1).cumsum(0).tolist()]
        places[f"{name}_starts"] = torch.tensor(starts, dtype=torch.int32)
    return batch | places


def of_cells(batch: dict, cells: slice) -> dict:
    """Some cells of a batch, as another process has them."""
    made = {}
    for name, whole in batch.items():
        if name.endswith("targets"):
            of = batch[name.replace("targets", "hidden")].nonzero()[:, 0]
            made[name] = whole[(of >= cells.start) & (of < cells.stop)]
        elif not name.endswith(("places", "starts")):
            made[name] = whole if name == "update" else whole[cells]
    return told(made)


@pytest.fixture
def batch() -> dict:
    return batch_of_six()


def without_hidden(batch):
    left_out = ("hidden", "hidden_places", "targets")
    return {name: its for name, its in batch.items() if not name.endswith(left_out)}


def model_of(config: Contrastive) -> ContrastiveModel:
    torch.manual_seed(1)
    return ContrastiveModel(SIZE, config, [24, 30])


def reference(first, second, factor, within: bool) -> float:
    """The mean of -log of the partner's share, in float64 and one anchor at a time."""
    first, second = (np.asarray(its, dtype=np.float64) for its in (first, second))
    found, num = 0.0, len(first)
    for anchors, partners in ((first, second), (second, first)):
        for cell in range(num):
            logits = [factor * anchors[cell] @ partners[other] for other in range(num)]
            if within:
                others = [other for other in range(num) if other != cell]
                logits += [factor * anchors[cell] @ anchors[other] for other in others]
            found -= logits[cell] - np.log(np.sum(np.exp(logits)))
    return found / 2


ALL = torch.tensor([True, True])
OWN = torch.tensor([0, 1])


def test_the_loss_across_panels_by_hand():
    first = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    second = torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])
    loss = across_panels(first, second, first, second, OWN, ALL, torch.tensor(1.0))

    def surprise(partner, other):
        return math.log(1 + math.exp(other - partner))

    anchors_first = surprise(0.6, 0.0) + surprise(0.6, 0.8)
    anchors_second = surprise(0.6, 0.8) + surprise(0.6, 0.0)
    assert loss.item() == pytest.approx((anchors_first + anchors_second) / 2, rel=1e-6)


def test_the_loss_across_and_within_panels_by_hand():
    first = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    second = torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])
    loss = across_and_within_panels(first, second, first, second, OWN, ALL, torch.tensor(1.0))

    def surprise(partner, *others):
        return math.log(1 + sum(math.exp(other - partner) for other in others))

    # The cosine of the two first views is 0, that of the second views 0.48.
    anchors_first = surprise(0.6, 0.0, 0.0) + surprise(0.6, 0.8, 0.0)
    anchors_second = surprise(0.6, 0.8, 0.48) + surprise(0.6, 0.0, 0.48)
    assert loss.item() == pytest.approx((anchors_first + anchors_second) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "within"), [(across_panels, False), (across_and_within_panels, True)]
)
def test_both_forms_equal_a_reference_in_float64(loss, within):
    generator = torch.Generator().manual_seed(3)
    first, second = (
        torch.nn.functional.normalize(torch.randn(40, 16, generator=generator), dim=1)
        for _ in range(2)
    )
    usable, own = torch.ones(40, dtype=torch.bool), torch.arange(40)
    found = loss(first, second, first, second, own, usable, torch.tensor(20.0))
    assert found.item() == pytest.approx(reference(first, second, 20.0, within), rel=1e-5)


@pytest.mark.parametrize("loss", [across_panels, across_and_within_panels])
def test_a_cell_without_a_view_is_nobodys_negative(loss):
    first, second = torch.eye(4, 6)[:3], torch.eye(4, 6)[1:]
    usable, own = torch.tensor([True, False, True]), torch.tensor([0, 2])
    factor = torch.tensor(5.0)
    found = loss(first[own], second[own], first, second, own, usable, factor)
    few = loss(first[own], second[own], first[own], second[own], OWN, ALL, factor)
    assert found.item() == pytest.approx(few.item())


def test_the_form_changes_at_the_switch_and_val_loss_has_one_throughout():
    config = Contrastive(loss_switch_step=5)
    assert form(True, 4, config) is across_panels
    assert form(True, 5, config) is across_and_within_panels
    assert form(False, 0, config) is across_and_within_panels
    never = Contrastive(loss_switch_step=None)
    assert form(True, 10**9, never) is form(False, 0, never) is across_panels


def test_learned_vectors_are_added_in_the_asked_share_of_updates():
    assert [learned_are_added(update, 0.25) for update in range(8)] == [
        False,
        False,
        False,
        True,
    ] * 2
    assert all(learned_are_added(update, 1.0) for update in range(8))
    assert sum(learned_are_added(update, 0.3) for update in range(1000)) == 300


@pytest.mark.parametrize("encoding", ["rank_encoding", "value_encoding"])
def test_one_batch_is_learned_by_heart(batch, encoding):
    config = Contrastive(
        input_encoding=encoding, masking_rate=0.4, mlm_loss_weight=1.0, loss_switch_step=20
    )
    model = model_of(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for update in range(120):
        loss, count = loss_of(model, batch | {"update": update}, config)
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    assert count == 5
    # Chance is log(9) = 2.2 and the variance of the values, 0.08.
    assert (loss / count).item() < 0.02


def test_only_cells_with_genes_in_both_views_are_counted(batch):
    config = Contrastive()
    model, batch = model_of(config).eval(), without_hidden(batch)
    loss, count = loss_of(model, batch, config)
    few = of_cells(batch, slice(0, 5))
    expected, _ = loss_of(model, few, config)
    assert count == 5
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    none = told(batch | {"usable": torch.zeros(NUM_CELLS, dtype=torch.bool)})
    loss, count = loss_of(model, none, config)
    assert (loss.item(), count) == (0, NUM_CELLS)
    loss.backward()


def test_targets_do_not_reach_the_encoder(batch):
    config = Contrastive(input_encoding="value_encoding", masking_rate=0.4, mlm_loss_weight=1.0)
    model, seen = model_of(config).eval(), []
    model.register_forward_hook(lambda _, __, output: seen.append(output))
    losses = [
        loss_of(model, batch | {"first_targets": batch["first_targets"] + more}, config)[0]
        for more in (0, 100)
    ]
    assert losses[1] > losses[0] + 1000
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("encoding", ["rank_encoding", "value_encoding"])
def test_nothing_in_a_step_waits_for_the_device(batch, encoding):
    config = Contrastive(input_encoding=encoding, masking_rate=0.4, mlm_loss_weight=1.0)
    model = model_of(config).train()
    with Waits() as waits:
        loss, _ = loss_of(model, batch, config)
        loss.backward()
    assert waits.found == []


def test_hidden_values_weigh_as_much_in_every_cell(batch):
    """The mean over a cell's hidden values, so that both parts of the loss count cells."""
    config = Contrastive(cont_loss_weight=0.0, masking_rate=0.4, mlm_loss_weight=2.0)
    model = model_of(config).eval()
    predicted = []
    model.register_forward_hook(lambda _, __, output: predicted.append(output[3]))
    loss, _ = loss_of(model, batch, config)
    hidden = [batch["first_hidden"], batch["second_hidden"]]
    cell = torch.cat([its.nonzero()[:, 0] for its in hidden])
    target = torch.cat([batch["first_targets"], batch["second_targets"]])
    errors = (predicted[0] - target) ** 2
    expected = sum(errors[cell == number].mean() for number in cell.unique() if number < 5)
    assert loss.item() == pytest.approx(2 * expected.item(), rel=1e-5)


def test_the_parts_of_several_processes_add_up_to_the_whole(batch):
    """Each has some of the cells, and compares them with those of both."""
    config, model = Contrastive(loss_switch_step=0), model_of(Contrastive()).eval()
    batch = without_hidden(batch)
    whole, count = loss_of(model, batch, config)
    rows = []
    loss_of(model, batch, config, lambda its: rows.append(its) or (its, 0))
    parts = []
    for cells in (slice(0, 2), slice(2, 6)):
        its = of_cells(batch, cells)
        gather = partial(lambda begin, own: (rows[0], begin), cells.start)
        parts.append(loss_of(model, its, config, gather))
    assert sum(part.item() for part, _ in parts) == pytest.approx(whole.item(), rel=1e-5)
    assert sum(number for _, number in parts) == count
