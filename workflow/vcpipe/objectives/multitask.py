"""Classify a cell by several labels at once."""

# B cells, T tasks, K classes of one task

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A label that training has no class for: it adds nothing to the loss.
NO_CLASS = -1


def task_losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropies of each task, summed over cells, [T]."""
    labels_BT = batch["labels"]
    return torch.stack(
        [
            F.cross_entropy(
                logits_BK.float(), labels_BT[:, task], ignore_index=NO_CLASS, reduction="sum"
            )
            for task, logits_BK in enumerate(model(batch["counts"]))
        ]
    )


def multitask(
    model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator
) -> tuple[Tensor, int]:
    """Cross-entropies summed over tasks and cells, counted per cell."""
    del generator  # nothing is hidden and nothing drawn
    return task_losses(model, batch).sum(), len(batch["labels"])
