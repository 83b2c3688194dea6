"""Optimisers and learning-rate schedules, from their settings."""

import math

import torch
from torch import nn

from vcpipe.config.training import READ_BY, TO_THE_END, Optimizer, Scheduler, rate_contradictions
from vcpipe.errors import InputError


def build_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """Adam in one compiled pass over all weights, on the CPU too.

    That pass can also be told on the device to change nothing (`found_inf`).
    """
    embedded = {
        weight
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for weight in module.parameters(recurse=False)
    }
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim > 1 and weight not in embedded]
    others = [weight for weight in weights if weight.ndim < 2 or weight in embedded]
    # Each group is a pass of its own.
    parts = ((matrices, config.weight_decay), (others, 0.0))
    if not config.weight_decay:
        parts = ((weights, 0.0),)
    groups = [{"params": its, "weight_decay": decay} for its, decay in parts if its]
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name](
        groups, lr=config.lr, fused=True
    )


def check_schedule(
    scheduler: Scheduler, optimizer: Optimizer, num_updates: int, updates_per_epoch: int
) -> None:
    if found := rate_contradictions("", optimizer, scheduler):
        raise InputError(f"{found[0]}.")
    length, what = num_updates, "the run has"
    if scheduler.name == "cosine_restarts":
        length, what = scheduler.first_cycle_epochs * updates_per_epoch, "the first cycle has"
    if scheduler.warmup_steps >= length:
        raise InputError(
            f"scheduler.warmup_steps is {scheduler.warmup_steps} but {what} {length} updates"
            "; expected fewer. Lower warmup_steps or raise training.max_epochs."
        )


def learning_rate(
    scheduler: Scheduler,
    lr: float,
    update: int,
    epoch: int,
    num_updates: int,
    updates_per_epoch: int,
) -> float:
    """The rate at one update; updates and epochs count from 0."""
    length, peak, lowest = num_updates, lr, 0.0
    if scheduler.name == "cosine_restarts":
        length = scheduler.first_cycle_epochs * updates_per_epoch
        while update >= length:
            update -= length
            length = round(length * scheduler.cycle_mult)
            peak *= scheduler.gamma
    if scheduler.name in TO_THE_END and scheduler.total_steps is not None:
        length = scheduler.total_steps
    if scheduler.name in READ_BY["min_lr"]:
        lowest = scheduler.min_lr
        peak = max(peak, lowest)
    warmup = scheduler.warmup_steps
    if update < warmup:
        return peak * (update + 1) / warmup
    if scheduler.name == "step":
        return peak * scheduler.gamma**epoch
    if scheduler.name == "constant":
        return peak
    done = min((update - warmup) / (length - warmup), 1.0)
    left = 1 - done if scheduler.name == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return peak * left + lowest * (1 - left)
