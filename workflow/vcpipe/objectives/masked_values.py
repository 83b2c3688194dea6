"""Predict the hidden values of a cell from the others, and what else scGPT learns beside it."""

# n cells of this process, N of all, M hidden values of the n cells, D width, K classes

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.models.scgpt import Predicted
from vcpipe.objectives.contrastive import Gather

# A cell without a label.
MISSING = -1


def alone(rows: Tensor) -> tuple[Tensor, int]:
    return rows, 0


def masked_values(
    model: nn.Module,
    batch: dict[str, Tensor],
    config: MaskedValues,
    generator: torch.Generator,
    gather: Gather = alone,
) -> tuple[Tensor, int]:
    """Squared error over the hidden values; the batch says which they are and hides them.

    The other parts are means over the cells of a batch, of all processes. They are multiplied by
    the number of hidden values, so that the loop, which divides by it, makes of them the mean over
    batches.
    """
    del generator  # what is hidden was drawn cell by cell, when the batch was made
    # val_loss has one form from the first epoch on, so that all epochs compare.
    gives_cells = config.gen_weight > 0 and (
        not model.training or batch["update"] >= config.gen_from_update
    )
    predicted = model(
        *(batch["genes"], batch["values"], batch["places"], batch["starts"], batch["scored"]),
        *(batch.get("known"), gives_cells),
    )
    target_M = batch["target_values"].float()
    loss = squared_error(predicted.values_M, target_M)
    if config.mvc_weight:
        loss = loss + config.mvc_weight * squared_error(predicted.values_of_cells_M, target_M)
    if gives_cells:
        loss = loss + config.gen_weight * squared_error(predicted.values_given_cells_M, target_M)
    if config.of_batches():
        # Outside of autocast: cosines of cells are too close for 8 bits.
        with torch.autocast(loss.device.type, enabled=False):
            loss = loss + of_batches(predicted, batch, config, gather)
    return loss, len(target_M)


def squared_error(predicted_M: Tensor, target_M: Tensor) -> Tensor:
    return F.mse_loss(predicted_M.float(), target_M, reduction="sum")


def of_batches(
    predicted: Predicted, batch: dict[str, Tensor], config: MaskedValues, gather: Gather
) -> Tensor:
    """This process's share of the means over the cells of all, times all hidden values."""
    cells_nD = predicted.cells_BD.float()
    num_own, width = cells_nD.shape
    own = {
        "hidden": F.pad(cells_nD.new_full((1,), len(batch["target_values"])), (0, num_own - 1)),
        "batch": batch["batch"] != MISSING if config.dar_weight else cells_nD.new_zeros(num_own),
        "type": batch["cell_type"] != MISSING if config.cls_weight else cells_nD.new_zeros(num_own),
    }
    again_nD = [] if predicted.again_BD is None else [predicted.again_BD.float()]
    counts_nK = torch.stack([its.to(cells_nD.dtype) for its in own.values()], dim=1)
    rows, begin = gather(torch.cat([cells_nD, *again_nD, counts_nK], dim=1))
    all_cells_ND, all_again_ND = rows[:, :width], rows[:, width : 2 * width]
    num_hidden, num_batches, num_types = rows[:, -len(own) :].sum(0).unbind()
    own_n = begin + torch.arange(num_own, device=rows.device)

    loss = cells_nD.new_zeros(())
    if config.ecs_weight:
        alike = elastic_similarity(cells_nD, all_cells_ND, own_n, config.ecs_threshold)
        loss = loss + config.ecs_weight * alike
    if config.dar_weight:
        batches_nK = predicted.batches_BK.float()
        loss = loss + config.dar_weight * labelled_mean(batches_nK, batch["batch"], num_batches)
    if config.cls_weight:
        types_nK = predicted.cell_types_BK.float()
        loss = loss + config.cls_weight * labelled_mean(types_nK, batch["cell_type"], num_types)
    if config.cce_weight:
        likeness = told_apart(cells_nD, all_again_ND, own_n, config.cce_temperature)
        loss = loss + config.cce_weight * likeness
    return num_hidden * loss


def elastic_similarity(
    cells_nD: Tensor, all_cells_ND: Tensor, own_n: Tensor, threshold: float
) -> Tensor:
    """Mean of 1 - (cosine - threshold)² over pairs; negative cosines, and a cell's own, count 0.

    Of the n x N pairs that begin with one of this process's cells, which of the N are own_n.
    """
    cosines_nN = (F.normalize(cells_nD, dim=1) @ F.normalize(all_cells_ND, dim=1).T).relu()
    is_other_nN = own_n[:, None] != torch.arange(len(all_cells_ND), device=own_n.device)
    return (1 - (cosines_nN * is_other_nN - threshold).square()).sum() / len(all_cells_ND) ** 2


def labelled_mean(logits_nK: Tensor, labels_n: Tensor, num_labelled: Tensor) -> Tensor:
    """Mean cross-entropy of the cells that have a label, of all processes; 0 where none has one."""
    loss = F.cross_entropy(logits_nK, labels_n, ignore_index=MISSING, reduction="sum")
    return loss / num_labelled.clamp(min=1)


def told_apart(cells_nD: Tensor, all_again_ND: Tensor, own_n: Tensor, temperature: float) -> Tensor:
    """Which of all second embeddings is a cell's own (SimCSE); the mean over all N cells."""
    cosines_nN = F.normalize(cells_nD, dim=1) @ F.normalize(all_again_ND, dim=1).T
    return F.cross_entropy(cosines_nN / temperature, own_n, reduction="sum") / len(all_again_ND)
