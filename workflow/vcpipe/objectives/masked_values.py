"""Hide some values of a cell and predict them from the others (scGPT's GEP)."""

# B cells, T tokens, N hidden values

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.pretrain import MaskedValues

# scGPT's sign for a hidden value; real values are never negative.
MASK_VALUE = -1.0


def masked_values(
    model: nn.Module, batch: dict[str, Tensor], config: MaskedValues, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Squared error over the hidden values."""
    values_BT, real_BT = batch["values"], batch["real"]
    hidden_BT = draw_mask(real_BT, config.mask_ratio, generator)
    seen_BT = values_BT.masked_fill(hidden_BT, MASK_VALUE)
    predicted_N = model(
        batch["genes"], seen_BT, None if bool(real_BT.all()) else real_BT, hidden_BT
    )
    loss = F.mse_loss(predicted_N.float(), values_BT[hidden_BT], reduction="sum")
    return loss, int(hidden_BT.sum())


def draw_mask(real_BT: Tensor, ratios: list[float], generator: torch.Generator) -> Tensor:
    """Choose one ratio for the batch and hide that share of each cell's genes.

    <cls> at position 0 and padding are never hidden; at least one gene of a cell is.
    """
    ratio = ratios[int(torch.randint(len(ratios), (), generator=generator))]
    eligible_BT = real_BT.clone()
    eligible_BT[:, 0] = False
    # Drawn on the CPU: the same mask on every device.
    score_BT = torch.rand(real_BT.shape, generator=generator).to(real_BT.device)
    rank_BT = score_BT.masked_fill(~eligible_BT, 2.0).argsort(dim=1).argsort(dim=1)
    num_hidden_B = (eligible_BT.sum(dim=1) * ratio).round().clamp(min=1)
    return (rank_BT < num_hidden_B[:, None]) & eligible_BT
