from itertools import pairwise

import pytest
import torch
from torch import nn

from vcpipe.config.training import Optimizer, Scheduler
from vcpipe.errors import InputError
from vcpipe.training.optimisers import build_optimizer, check_schedule, learning_rate

SCHEDULES = {
    "constant": {},
    "step": {"gamma": 0.5},
    "cosine_warmup": {"warmup_steps": 4, "min_lr": 0.01},
    "cosine": {"min_lr": 0.01},
    "linear": {"warmup_steps": 4, "min_lr": 0.01},
    "cosine_restarts": {"first_cycle_epochs": 2, "cycle_mult": 2, "gamma": 0.5, "min_lr": 0.01},
}


def rates(num_updates: int = 40, updates_per_epoch: int = 5, lr: float = 1.0, **scheduler):
    its = Scheduler(**scheduler)
    return [
        learning_rate(its, lr, update, update // updates_per_epoch, num_updates, updates_per_epoch)
        for update in range(num_updates)
    ]


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_update_is_made_at_a_rate_of_zero(name):
    its = {key: value for key, value in SCHEDULES[name].items() if key != "min_lr"}
    assert min(rates(name=name, **its)) > 0


def test_cosine_and_linear_end_at_the_lowest_rate():
    for name in ("cosine", "cosine_warmup", "linear"):
        its = rates(80, name=name, total_steps=40, min_lr=0.01)
        assert its[0] == 1.0
        assert its[20] == pytest.approx(0.505)
        assert its[40:] == [0.01] * 40


def test_warmup_rises_to_the_rate_and_the_schedule_begins_there():
    its = rates(name="linear", warmup_steps=4)
    assert its[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert its[22] == pytest.approx(0.5)


def test_restarts_come_after_longer_and_longer_cycles_with_lower_and_lower_peaks():
    """Cycles of 2 and 4 epochs of 5 updates: 10 updates, then 20."""
    its = rates(**SCHEDULES["cosine_restarts"], name="cosine_restarts")
    assert (its[0], its[10], its[30]) == (1.0, 0.5, 0.25)
    assert its[5] == pytest.approx(0.505)
    assert its[20] == pytest.approx(0.255)
    # The rate moves at every update, not once an epoch.
    assert all(before > after for before, after in pairwise(its[:10]))


def test_every_cycle_warms_up():
    its = rates(name="cosine_restarts", first_cycle_epochs=2, cycle_mult=1, warmup_steps=2)
    assert its[:3] == [0.5, 1.0, 1.0]
    assert its[10:13] == pytest.approx([0.45, 0.9, 0.9])


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ({"name": "linear", "warmup_steps": 40}, "is 40 but the run has 40 updates"),
        (
            {"name": "cosine_restarts", "first_cycle_epochs": 1, "warmup_steps": 5},
            "is 5 but the first cycle has 5 updates",
        ),
        ({"name": "cosine", "min_lr": 1.0}, r"min_lr is 1 and optimizer.lr is 0\.1"),
    ],
)
def test_a_schedule_that_never_falls_is_an_error(scheduler, words):
    with pytest.raises(InputError, match=words):
        check_schedule(Scheduler(**scheduler), Optimizer(lr=0.1), 40, 5)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_weight_decay_is_of_matrices_only(name):
    model = nn.ModuleDict(
        {"names": nn.Embedding(4, 3), "line": nn.Linear(3, 2), "norm": nn.LayerNorm(2)}
    )
    optimizer = build_optimizer(model, Optimizer(name=name, lr=0.1, weight_decay=0.5))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    changed = {
        name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])
    }
    assert changed == {"line.weight"}
