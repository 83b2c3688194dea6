"""Predict the hidden values of a cell from the others, and what else scGPT learns beside it."""

# B cells, M hidden values, D width, K classes

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.models.scgpt import Predicted

# A cell without a label.
MISSING = -1


def masked_values(
    model: nn.Module, batch: dict[str, Tensor], config: MaskedValues, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Squared error over the hidden values; the batch says which they are and hides them.

    The other parts are means over a batch. They are multiplied by the number of hidden values, so
    that the loop, which divides by it, makes of them the mean over batches.
    """
    del generator  # what is hidden was drawn cell by cell, when the batch was made
    predicted = model(
        *(batch["genes"], batch["values"], batch["places"], batch["starts"], batch["scored"]),
        batch.get("known"),
    )
    target_M = batch["target_values"].float()
    loss = F.mse_loss(predicted.values_M.float(), target_M, reduction="sum")
    if config.mvc_weight:
        of_cells_M = predicted.values_of_cells_M.float()
        loss = loss + config.mvc_weight * F.mse_loss(of_cells_M, target_M, reduction="sum")
    return loss + len(target_M) * of_cells(predicted, batch, config), len(target_M)


def of_cells(predicted: Predicted, batch: dict[str, Tensor], config: MaskedValues) -> Tensor:
    """The weighted sum of what is asked of the cells' embeddings."""
    loss = predicted.values_M.new_zeros((), dtype=torch.float32)
    cells_BD = predicted.cells_BD.float()
    if config.ecs_weight:
        loss = loss + config.ecs_weight * elastic_similarity(cells_BD, config.ecs_threshold)
    if config.dar_weight:
        batches_BK = predicted.batches_BK.float()
        loss = loss + config.dar_weight * labelled_mean(batches_BK, batch["batch"])
    if config.cls_weight:
        cell_types_BK = predicted.cell_types_BK.float()
        loss = loss + config.cls_weight * labelled_mean(cell_types_BK, batch["cell_type"])
    if config.cce_weight:
        again_BD = predicted.again_BD.float()
        likeness = told_apart(cells_BD, again_BD, config.cce_temperature)
        loss = loss + config.cce_weight * likeness
    return loss


def elastic_similarity(cells_BD: Tensor, threshold: float) -> Tensor:
    """Mean of 1 - (cosine - threshold)² over pairs; negative cosines, and a cell's own, count 0."""
    cells_BD = F.normalize(cells_BD, dim=1)
    cosines_BB = (cells_BD @ cells_BD.T).relu()
    of_others_BB = cosines_BB * (1 - torch.eye(len(cells_BD), device=cells_BD.device))
    return (1 - (of_others_BB - threshold).square()).mean()


def labelled_mean(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Mean cross-entropy of the cells that have a label; 0 where none has one."""
    total = F.cross_entropy(logits_BK, labels_B, ignore_index=MISSING, reduction="sum")
    return total / (labels_B != MISSING).sum().clamp(min=1)


def told_apart(cells_BD: Tensor, again_BD: Tensor, temperature: float) -> Tensor:
    """Which of a batch's second embeddings is a cell's own (SimCSE)."""
    cosines_BB = F.normalize(cells_BD, dim=1) @ F.normalize(again_BD, dim=1).T
    own_B = torch.arange(len(cells_BD), device=cells_BD.device)
    return F.cross_entropy(cosines_BB / temperature, own_B)
