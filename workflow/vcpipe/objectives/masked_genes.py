"""Tell the hidden genes of a cell from the others (scModelForge's masked gene prediction)."""

import torch
from torch import Tensor, nn


def masked_genes(
    model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator
) -> tuple[Tensor, int]:
    """Cross-entropy over genes, of the chosen tokens; the batch says which they are."""
    del generator  # what is hidden was drawn cell by cell, when the batch was made
    losses_M = model(
        *(batch["genes"], batch["values"], batch["places"], batch["starts"]),
        *(batch["scored"], batch["target_genes"]),
    )
    return losses_M.sum(), len(losses_M)
