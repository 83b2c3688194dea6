"""Predict the hidden values of a cell from the others (scGPT's GEP)."""

# B cells, T tokens, N hidden values

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.pretrain import MaskedValues


def masked_values(
    model: nn.Module, batch: dict[str, Tensor], config: MaskedValues, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Squared error over the hidden values; the batch says which they are and hides them."""
    del config, generator  # what is hidden was drawn cell by cell, when the batch was made
    real_BT, hidden_BT = batch["real"], batch["chosen"]
    predicted_N = model(
        batch["genes"], batch["values"], None if bool(real_BT.all()) else real_BT, hidden_BT
    )
    loss = F.mse_loss(predicted_N.float(), batch["target_values"].float(), reduction="sum")
    return loss, len(predicted_N)
