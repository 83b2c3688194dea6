"""The two views of a cell find each other among those of all cells of a batch (scConcept)."""

# n cells of this process, u usable ones of them, N of all, D width, M hidden values of the n cells

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.objectives.contrastive import Contrastive
from vcpipe.models.contrastive import View

# Rows of all processes, and where this one's begin; gradients find their way back.
Gather = Callable[[Tensor], tuple[Tensor, int]]
VIEWS = ("first", "second")


def contrastive(
    model: nn.Module,
    batch: dict[str, Tensor],
    config: Contrastive,
    gather: Gather,
    generator: torch.Generator,
) -> tuple[Tensor, int]:
    """Summed over this process's cells that have genes in both views; negatives are everyone's.

    The squared error over hidden values is the mean of each cell, so that both parts count cells.
    """
    del generator  # panels, ties and hidden values were drawn when the batch was made
    views = [view_of(batch, name) for name in VIEWS]
    adds_learned = not model.training or learned_are_added(
        batch["update"], config.use_learnable_embs_freq
    )
    first_nD, second_nD, factor, predicted_M = model(*views, batch["species"], adds_learned)
    usable_n, place_u = batch["usable"], batch["usable_places"]
    # Outside of autocast: cosines of unit vectors, times 100, are too close for 8 bits.
    with torch.autocast(first_nD.device.type, enabled=False):
        rows = torch.cat([first_nD, second_nD, usable_n[:, None].to(first_nD.dtype)], dim=1)
        rows, begin = gather(rows)
        width = first_nD.shape[1]
        all_first_ND, all_second_ND, usable_N = rows[:, :width], rows[:, width:-1], rows[:, -1] > 0
        loss = form(model.training, batch["update"], config)(
            *(first_nD[place_u], second_nD[place_u], all_first_ND, all_second_ND),
            *(begin + place_u, usable_N, factor),
        )
        loss = config.cont_loss_weight * loss
        if predicted_M is not None:
            loss = loss + config.mlm_loss_weight * _hidden_error(batch, predicted_M)
    # A batch without any usable cell, of any process, says nothing: its loss is 0. Only a process
    # that has none asks the device for those of others.
    says_nothing = not len(place_u) and not usable_N.any()
    return loss, len(usable_n) if says_nothing else len(place_u)


def view_of(batch: dict[str, Tensor], name: str) -> View:
    names = ("genes", "values", "places", "starts", "hidden", "hidden_places")
    return View(*(batch.get(f"{name}_{what}") for what in names))


def learned_are_added(update: int, frequency: float) -> bool:
    """Evenly spread over updates: with 0.25 in every fourth."""
    return int((update + 1) * frequency) > int(update * frequency)


def form(is_training: bool, update: int, config: Contrastive) -> Callable[..., Tensor]:
    """val_loss has one form from the first epoch on: epochs before and after the switch compare."""
    if config.loss_switch_step is None:
        return across_panels
    is_late = update >= config.loss_switch_step or not is_training
    return across_and_within_panels if is_late else across_panels


def across_panels(
    first_nD: Tensor,
    second_nD: Tensor,
    all_first_ND: Tensor,
    all_second_ND: Tensor,
    own_n: Tensor,
    usable_N: Tensor,
    factor: Tensor,
) -> Tensor:
    """CLIP's symmetric loss, summed over cells: own_n says which of the N each of the n is."""
    found = 0.0
    for anchors_nD, keys_ND in ((first_nD, all_second_ND), (second_nD, all_first_ND)):
        logits_nN = factor * anchors_nD @ keys_ND.T
        logits_nN = logits_nN.masked_fill(~usable_N, -torch.inf)
        found = found + F.cross_entropy(logits_nN, own_n, reduction="sum")
    return found / 2


def across_and_within_panels(
    first_nD: Tensor,
    second_nD: Tensor,
    all_first_ND: Tensor,
    all_second_ND: Tensor,
    own_n: Tensor,
    usable_N: Tensor,
    factor: Tensor,
) -> Tensor:
    """The same among all 2N views but the anchor itself: a panel that shows does not help."""
    num_all = len(usable_N)
    keys = torch.cat([all_first_ND, all_second_ND])
    logits = factor * torch.cat([first_nD, second_nD]) @ keys.T
    is_self = F.one_hot(torch.cat([own_n, num_all + own_n]), 2 * num_all).bool()
    logits = logits.masked_fill(is_self | ~usable_N.repeat(2), -torch.inf)
    partner = torch.cat([num_all + own_n, own_n])
    return F.cross_entropy(logits, partner, reduction="sum") / 2


def _hidden_error(batch: dict[str, Tensor], predicted_M: Tensor) -> Tensor:
    """Squared errors, each cell's averaged over its hidden values of both views."""
    hidden = [batch[f"{name}_hidden"] for name in VIEWS]
    num_n = sum(its.sum(1) for its in hidden)
    weight_n = batch["usable"] / num_n.clamp(min=1)
    cell_M = torch.cat(
        [
            batch[f"{name}_hidden_places"] // its.shape[1]
            for name, its in zip(VIEWS, hidden, strict=True)
        ]
    )
    target_M = torch.cat([batch[f"{name}_targets"] for name in VIEWS])
    return (weight_n[cell_M] * (predicted_M.float() - target_M) ** 2).sum()
