"""Classify a cell by several labels at once."""

# B cells, T tasks, K classes of one task

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A label that training has no class for: it adds nothing to the loss.
NO_CLASS = -1


def multitask(
    model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator
) -> tuple[Tensor, int]:
    """Cross-entropies summed over tasks and cells, counted per cell."""
    del generator  # nothing is hidden and nothing drawn
    labels_BT = batch["labels"]
    losses = [
        F.cross_entropy(
            logits_BK.float(), labels_BT[:, task], ignore_index=NO_CLASS, reduction="sum"
        )
        for task, logits_BK in enumerate(model(batch["counts"]))
    ]
    return torch.stack(losses).sum(), len(labels_BT)
