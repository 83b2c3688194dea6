import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.waits import Waits
from vcpipe.config.model import Transformer
from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.models.scgpt import MaskedValueModel, Predicted
from vcpipe.objectives.masked_values import (
    alone,
    elastic_similarity,
    labelled_mean,
    masked_values,
    told_apart,
)

SIZE = Transformer(hidden_dim=32, num_layers=2, num_heads=4, ffn_dim=32, dropout=0.0)
CONFIG = MaskedValues(mask_ratio=[0.5])
PARTS = ("mvc", "gen", "ecs", "dar", "cls", "cce")
EVERYTHING = {f"{part}_weight": 0.1 for part in PARTS} | {"gen_from_update": 0}
MASK_VALUE = -1.0


def loss_of(model, batch, config=CONFIG, gather=alone):
    return masked_values(model, batch | {"update": 0}, config, torch.Generator(), gather)


def build(config=CONFIG, size=SIZE) -> MaskedValueModel:
    torch.manual_seed(1)
    return MaskedValueModel(size, 21, 20, config, num_batches=2, num_cell_types=3)


@pytest.fixture
def make():
    def batch(hidden_last: bool = False) -> dict[str, Tensor]:
        """As Collated.padded lays it out: 4 cells of <cls> and up to 12 genes."""
        torch.manual_seed(0)
        real = torch.ones(4, 13, dtype=torch.bool)
        real[2, 9:] = False
        genes = torch.stack([torch.randperm(19)[:13] for _ in range(4)])
        values = torch.rand(4, 13) * 5 * real
        genes[:, 0], values[:, 0] = 19, 0
        chosen = (torch.rand(4, 13) < 0.5) & real
        chosen[:, 0] = False
        order = chosen.int().argsort(dim=1, stable=True) if hidden_last else torch.arange(13)[None]
        places = (order + 13 * torch.arange(4)[:, None])[real.gather(1, order.expand(4, -1))]
        made = {
            "genes": genes,
            "values": values.masked_fill(chosen, MASK_VALUE),
            "places": places,
            "starts": F.pad(real.sum(1).cumsum(0), (1, 0)).int(),
            "scored": chosen.flatten()[places].nonzero().flatten(),
            "target_values": values[chosen],
            "batch": torch.tensor([0, 1, 1, 0]),
            "cell_type": torch.tensor([2, 0, -1, 1]),
        }
        known = (real & ~chosen).sum(1).int()
        return made | ({"known": known} if hidden_last else {})

    return batch


@pytest.fixture
def batch(make) -> dict[str, Tensor]:
    return make()


def test_targets_do_not_reach_the_encoder(batch):
    """Whatever the hidden values are, the predictions are the same."""
    model = build().eval()
    predicted = []
    model.decoder.register_forward_hook(lambda _, __, output: predicted.append(output))
    loss_of(model, batch)
    loss_of(model, batch | {"target_values": batch["target_values"] + 100})
    assert torch.equal(predicted[0], predicted[1])


def test_the_encoder_sees_the_sign_for_hidden_values(batch):
    model = build()
    seen = []
    model.value_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss_of(model, batch)
    is_hidden = torch.zeros(len(batch["places"]), dtype=torch.bool)
    is_hidden[batch["scored"]] = True
    assert bool((seen[0][is_hidden] == MASK_VALUE).all())
    assert bool((seen[0][~is_hidden] >= 0).all())


def test_in_generative_training_not_even_the_sign_is_read(make):
    batch, config = make(hidden_last=True), MaskedValues(attention="generative", mvc_weight=1)
    model = build(config).eval()
    changed = batch["values"].where(batch["values"] >= 0, torch.rand(4, 13) * 9)
    found, other = (
        loss_of(model, batch | {"values": v}, config) for v in (batch["values"], changed)
    )
    assert found[0] == other[0]


def test_in_generative_training_no_cell_or_known_gene_depends_on_hidden_ones(make):
    batch, config = make(hidden_last=True), MaskedValues(attention="generative")
    model = build(config).eval()
    outputs = []
    model.transformer_encoder.layers[-1].register_forward_hook(
        lambda _, __, output: outputs.append(output)
    )
    loss_of(model, batch)
    genes = batch["genes"].flatten().clone()
    genes[batch["places"][batch["scored"]]] += 1
    loss_of(model, batch | {"genes": genes.view(4, 13) % 19 + (genes.view(4, 13) == 19) * 19})
    is_hidden = torch.zeros(len(batch["places"]), dtype=torch.bool)
    is_hidden[batch["scored"]] = True
    assert torch.equal(outputs[0][~is_hidden], outputs[1][~is_hidden])
    assert not torch.allclose(outputs[0][is_hidden], outputs[1][is_hidden])


class Constant(torch.nn.Module):
    """The same two for every hidden value, and given embeddings and logits."""

    def forward(self, genes, values, places, starts, scored, known, gives_cells):
        return Predicted(
            torch.full((len(scored),), 2.0),
            torch.full((len(scored),), 1.0),
            torch.full((len(scored),), 3.0) if gives_cells else None,
            torch.tensor([[1.0, 0.0], [0.6, 0.8]]),
            torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
            torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]),
            torch.tensor([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]]),
        )


BY_HAND = {
    "genes": torch.tensor([[9, 1, 2], [9, 3, 4]]),
    "values": torch.tensor([[0.0, -1.0, -1.0], [0.0, -1.0, -1.0]]),
    "places": torch.arange(6),
    "starts": torch.tensor([0, 3, 6], dtype=torch.int32),
    "scored": torch.tensor([1, 2, 4, 5]),
    "target_values": torch.tensor([1.0, 4.0, 2.0, 5.0]),
    "batch": torch.tensor([0, 1]),
    "cell_type": torch.tensor([2, -1]),
}
GEP = (1 - 2) ** 2 + (4 - 2) ** 2 + (2 - 2) ** 2 + (5 - 2) ** 2


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({}, 0.0),
        ({"mvc_weight": 2}, 2 * ((1 - 1) ** 2 + (4 - 1) ** 2 + (2 - 1) ** 2 + (5 - 1) ** 2)),
        (
            {"gen_weight": 2, "gen_from_update": 0},
            2 * ((1 - 3) ** 2 + (4 - 3) ** 2 + (2 - 3) ** 2 + (5 - 3) ** 2),
        ),
        # Both cells' own pairs count as a cosine of 0.
        (
            {"ecs_weight": 10, "ecs_threshold": 0.5},
            4 * 10 * (1 - ((0.6 - 0.5) ** 2 + (0 - 0.5) ** 2) / 2),
        ),
        ({"dar_weight": 1}, 4 * (math.log(2) + math.log(4 / 3)) / 2),
        # The second cell has no type.
        ({"cls_weight": 1}, 4 * math.log(3)),
        (
            {"cce_weight": 1, "cce_temperature": 0.5},
            4 * (math.log(1 + math.exp(2)) + math.log(1 + math.exp(0.4))) / 2,
        ),
    ],
    ids=["gep", *PARTS],
)
def test_the_loss_by_hand(settings, more):
    """Squared errors of hidden values; what is a mean over cells is times their number."""
    loss, count = loss_of(Constant(), BY_HAND, MaskedValues(**settings))
    assert count == 4
    assert loss.item() == pytest.approx(GEP + more, rel=1e-6)


def test_the_second_pass_begins_at_an_update_and_is_part_of_every_val_loss(batch):
    config = MaskedValues(gen_weight=1.0, gen_from_update=5)
    model, generator = build(config), torch.Generator()
    first, later = (masked_values(model, batch | {"update": n}, config, generator) for n in (4, 5))
    assert first[0] < later[0]
    model.eval()
    judged = [masked_values(model, batch | {"update": n}, config, generator)[0] for n in (0, 9)]
    assert judged[0] == judged[1] == later[0]


def test_the_parts_of_several_processes_add_up_to_the_whole(batch):
    """Each has some of the cells, labels and hidden values, and compares its cells with all."""
    config = MaskedValues(**EVERYTHING)
    model, rows = build(config), []
    whole, count = loss_of(model, batch, config, lambda its: rows.append(its) or (its, 0))
    parts = []
    for cells in (slice(0, 1), slice(1, 4)):
        tokens = slice(*(int(batch["starts"][at]) for at in (cells.start, cells.stop)))
        is_mine = (batch["scored"] >= tokens.start) & (batch["scored"] < tokens.stop)
        its = {name: batch[name][cells] for name in ("genes", "values", "batch", "cell_type")} | {
            "places": batch["places"][tokens] - 13 * cells.start,
            "starts": batch["starts"][cells.start : cells.stop + 1] - tokens.start,
            "scored": batch["scored"][is_mine] - tokens.start,
            "target_values": batch["target_values"][is_mine],
        }
        own = []
        loss_of(model, its, config, lambda mine, own=own: own.append(mine) or (mine, 0))
        gather = partial(lambda begin, _: (rows[0], begin), cells.start)
        parts.append(loss_of(model, its, config, gather))
        torch.testing.assert_close(own[0][:, :-3], rows[0][cells, :-3], atol=1e-6, rtol=1e-5)
    assert sum(part.item() for part, _ in parts) == pytest.approx(whole.item(), rel=1e-6)
    assert sum(number for _, number in parts) == count


def test_elastic_similarity_is_least_for_cells_that_are_alike():
    alike, apart, own = torch.ones(3, 2), torch.eye(3), torch.arange(3)
    assert elastic_similarity(alike, alike, own, 0.3) < elastic_similarity(apart, apart, own, 0.3)


def test_a_batch_without_labels_adds_nothing():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = labelled_mean(logits, torch.full((3,), -1), torch.tensor(0.0))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_cells_are_told_apart_when_their_embeddings_are_their_own():
    cells, own = torch.eye(4), torch.arange(4)
    others = cells.roll(1, 0)
    assert told_apart(cells, cells, own, 0.01) < 1e-6 < told_apart(cells, others, own, 0.01)


def test_dar_teaches_the_head_and_unteaches_the_encoder(batch):
    """The head's own gradient goes down, that of the encoder behind it up."""
    config, sign = MaskedValues(dar_weight=1.0), {}
    model = build(config)
    for name, reversing in (("as it is", lambda x: 2 * x.detach() - x), ("plain", lambda x: x)):
        model.zero_grad()
        predicted = model(*(batch[k] for k in ("genes", "values", "places", "starts", "scored")))
        logits = model.grad_reverse_discriminator(reversing(predicted.cells_BD))
        labelled_mean(logits, batch["batch"], torch.tensor(4.0)).backward()
        sign[name] = [
            model.encoder.embedding.weight.grad.clone(),
            model.grad_reverse_discriminator.out_layer.weight.grad.clone(),
        ]
    torch.testing.assert_close(sign["as it is"][0], -sign["plain"][0])
    torch.testing.assert_close(sign["as it is"][1], sign["plain"][1])
    model.zero_grad()
    predicted = model(*(batch[k] for k in ("genes", "values", "places", "starts", "scored")))
    labelled_mean(predicted.batches_BK, batch["batch"], torch.tensor(4.0)).backward()
    torch.testing.assert_close(model.encoder.embedding.weight.grad, sign["as it is"][0])


def test_every_weight_takes_part(make):
    """Or processes that average their gradients would wait for it."""
    config = MaskedValues(attention="generative", **EVERYTHING)
    model = build(config, SIZE.model_copy(update={"dropout": 0.1}))
    loss, _ = loss_of(model, make(hidden_last=True), config)
    loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("attention", ["full", "generative"])
@pytest.mark.parametrize("parts", [(), ("mvc", "cls")])
def test_one_batch_is_learned_by_heart(make, attention, parts):
    config = MaskedValues(attention=attention, **{f"{part}_weight": 0.5 for part in parts})
    batch, model = make(hidden_last=attention == "generative"), build(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        loss, count = loss_of(model, batch, config)
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()

    assert (loss / count).item() < 0.05


@pytest.mark.parametrize("attention", ["full", "generative"])
def test_nothing_in_a_step_waits_for_the_device(make, attention):
    config = MaskedValues(attention=attention, **EVERYTHING)
    batch, model = make(hidden_last=attention == "generative"), build(config)
    with Waits() as waits:
        loss, count = loss_of(model, batch, config)
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert waits.found == []


def test_waiting_is_noticed(batch):
    with Waits() as waits:
        batch["values"][batch["values"] > 0].sum().item()
    assert waits.found == ["index", "_local_scalar_dense"]


def test_numbers_of_a_batch_come_from_the_batch_maker():
    """Its arrays are what the model asks for."""
    from vcpipe.data.tokens.collate import Collated

    starts, genes = np.array([0, 3, 5]), np.array([[9, 1, 2], [9, 3, 0]], dtype=np.int32)
    chosen = np.array([[False, True, False], [False, True, False]])
    targets = np.array([1, 3], dtype=np.int32), np.array([4.0, 5.0], dtype=np.float32)
    values = np.array([[0, -1, 2], [0, -1, -2]], dtype=np.float32)
    made = Collated(starts, genes, values, chosen, *targets, np.zeros(2, np.uint64))
    tensors = partial(made.padded, np.empty)
    first = {name: torch.from_numpy(array) for name, array in tensors().items()}
    assert first["places"].tolist() == [0, 1, 2, 3, 4]
    assert first["scored"].tolist() == [1, 4]
    last = {name: torch.from_numpy(array) for name, array in tensors(hidden_last=True).items()}
    assert last["places"].tolist() == [0, 2, 1, 3, 4]
    assert last["scored"].tolist() == [2, 4]
    assert last["known"].tolist() == [2, 1]
    loss, count = loss_of(build(), first)
    assert count == 2
    assert loss > 0
