"""Tell the next gene of a cell and its bin, and the same from the cell embedding alone."""

import torch
from torch import Tensor, nn

from vcpipe.config.objectives.next_genes import NextGenes


def weights(config: NextGenes) -> dict[str, float]:
    """Of each part of the loss that a model may give."""
    return {
        "gene": config.gene_loss_weight,
        "bin": config.expression_loss_weight,
        "cell_gene": config.cell_loss_weight * config.gene_loss_weight,
        "cell_bin": config.cell_loss_weight * config.expression_loss_weight,
    }


def next_genes(
    model: nn.Module, batch: dict[str, Tensor], config: NextGenes, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Weighted sum of cross-entropies, counted per token that has a next one."""
    del generator  # nothing is hidden and nothing drawn
    names = ("genes", "values", "places", "starts", "before")
    losses = model(*(batch[name] for name in names))
    shares = weights(config)
    loss = sum(shares[name] * losses_M.sum() for name, losses_M in losses.items())
    return loss, len(batch["before"])
