"""Optimisers and learning-rate schedules, from their settings."""

import math

import torch
from torch import nn

from vcpipe.config.training import Optimizer, Scheduler
from vcpipe.errors import InputError


def build_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name](
        weights, lr=config.lr, weight_decay=config.weight_decay
    )


def check_warmup(config: Scheduler, num_updates: int) -> None:
    if config.warmup_steps >= num_updates:
        raise InputError(
            f"scheduler.warmup_steps is {config.warmup_steps} but the run has {num_updates} updates"
            "; expected fewer. Lower warmup_steps or raise training.max_epochs."
        )


def rate_factor(config: Scheduler, update: int, epoch: int, num_updates: int) -> float:
    """What the learning rate is multiplied with at one update (both count from 0)."""
    if update < config.warmup_steps:
        return (update + 1) / config.warmup_steps
    if config.name == "step":
        return config.gamma**epoch
    if config.name == "cosine_warmup":
        done = (update - config.warmup_steps) / (num_updates - config.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return 1.0
