"""Predict the values of genes from a cell's open peaks, and its type (EpiFoundation).

Every term is a mean over cells, of values of each cell's own mean over the genes it is asked for.
So the count is of cells for all of them, and sums may be taken over any batches and processes.
"""

# B cells, N asked values, O numbers of a value, K cell types

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.objectives.peaks_to_genes import PeaksToGenes, TaskWeight

# A cell without a label: it adds nothing to the loss.
NO_CLASS = -1


def peaks_to_genes(
    model: nn.Module, batch: dict[str, Tensor], config: PeaksToGenes, generator: torch.Generator
) -> tuple[Tensor, int]:
    del generator  # which genes are asked for was drawn cell by cell, when the batch was made
    cell_N, weight = batch["cell"], config.task_weight
    peaks = (batch[name] for name in ("peaks", "peak_chromosomes", "places", "starts"))
    values_NO, types_BK = model(*peaks, cell_N, batch["gene"], batch["batch"])
    num_cells = len(batch["peaks"])
    loss_B = weight.mvc * HEADS[config.value_head](
        values_NO.float(), batch["targets"], cell_N, num_cells, weight
    )
    if types_BK is not None:
        loss_B = loss_B + weight.cell_type * F.cross_entropy(
            types_BK.float(), batch["cell_type"], ignore_index=NO_CLASS, reduction="none"
        )
    return loss_B.sum(), num_cells


def categorical(
    values_NO: Tensor, targets_N: Tensor, cell_N: Tensor, num_cells: int, weight: TaskWeight
) -> Tensor:
    del weight
    loss_N = F.cross_entropy(values_NO, targets_N.long(), reduction="none")
    return mean_by_cell(loss_N, torch.ones_like(loss_N), cell_N, num_cells)


def regression(
    values_NO: Tensor, targets_N: Tensor, cell_N: Tensor, num_cells: int, weight: TaskWeight
) -> Tensor:
    del weight
    loss_N = (values_NO[:, 0] - targets_N).square()
    return mean_by_cell(loss_N, torch.ones_like(loss_N), cell_N, num_cells)


def zero_inflated(
    values_NO: Tensor, targets_N: Tensor, cell_N: Tensor, num_cells: int, weight: TaskWeight
) -> Tensor:
    """Numbers of a value are itself, scored where the gene is detected, and the logit of zero."""
    value_N, zero_N = values_NO.unbind(1)
    is_zero_N = (targets_N == 0).float()
    bce_N = F.binary_cross_entropy_with_logits(zero_N, is_zero_N, reduction="none")
    mse_N = (value_N - targets_N).square()
    bce_B = mean_by_cell(bce_N, torch.ones_like(bce_N), cell_N, num_cells)
    mse_B = mean_by_cell(mse_N, 1 - is_zero_N, cell_N, num_cells)
    return weight.zero_bce * bce_B + weight.value_mse * mse_B


HEADS = {"categorical": categorical, "regression": regression, "zero_inflated": zero_inflated}


def mean_by_cell(loss_N: Tensor, counted_N: Tensor, cell_N: Tensor, num_cells: int) -> Tensor:
    """Mean over what counts of each cell (1, or 0); 0 for a cell of which nothing does."""
    sums = loss_N.new_zeros(2, num_cells)
    sums = sums.index_add(1, cell_N, torch.stack([loss_N * counted_N, counted_N]))
    return sums[0] / sums[1].clamp(min=1)
