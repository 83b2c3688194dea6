"""Reconstruct the hidden values of a cell from an encoding of the others (scModelForge's MAE)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def masked_autoencoder(
    model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator
) -> tuple[Tensor, int]:
    """Squared error over the hidden values; the batch says which they are and hides them."""
    del generator  # what is hidden was drawn cell by cell, when the batch was made
    predicted_M = model(
        *(batch["genes"], batch["values"], batch["places"], batch["starts"]),
        *(batch["shown"], batch["shown_starts"], batch["scored"], batch["target_genes"]),
    )
    loss = F.mse_loss(predicted_M.float(), batch["target_values"].float(), reduction="sum")
    return loss, len(predicted_M)
