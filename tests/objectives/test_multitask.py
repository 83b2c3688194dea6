"""The loss of several labels is the sum of their cross-entropies."""

import numpy as np
import pytest
import torch

from vcpipe.models.linear import MultiTaskLinear
from vcpipe.objectives.multitask import NO_CLASS, multitask, task_losses


@pytest.fixture
def model() -> MultiTaskLinear:
    torch.manual_seed(0)
    return MultiTaskLinear(3, [2, 3])


@pytest.fixture
def batch() -> dict:
    return {
        "counts": torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]),
        "labels": torch.tensor([[1, 2], [0, 0]]),
    }


def test_the_loss_by_hand(model, batch):
    loss, count = multitask(model, batch, generator=torch.Generator())
    expected = 0.0
    for task, logits in enumerate(model(batch["counts"])):
        shares = np.exp(logits.detach().numpy())
        shares /= shares.sum(axis=1, keepdims=True)
        expected -= np.log(shares[[0, 1], batch["labels"][:, task].numpy()]).sum()
    assert count == 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert task_losses(model, batch).sum().item() == pytest.approx(loss.item())


def test_a_label_without_a_class_adds_nothing(model, batch):
    whole = task_losses(model, batch)
    batch["labels"][1, 1] = NO_CLASS
    part = task_losses(model, batch)
    assert part[0] == whole[0]
    assert 0 < part[1] < whole[1]
    batch["labels"][:] = NO_CLASS
    assert task_losses(model, batch).tolist() == [0, 0]


def test_one_batch_is_learned_by_heart(model, batch):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss, count = multitask(model, batch, generator=torch.Generator())
        (loss / count).backward()
        optimizer.step()
    assert loss.item() < 0.05
    found = torch.stack([logits.argmax(dim=1) for logits in model(batch["counts"])], dim=1)
    assert torch.equal(found, batch["labels"])
