"""Predict the perturbed cell from a control cell and the perturbation (scGPT's finetuning)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.finetune import Perturbation


def perturbation(
    model: nn.Module, batch: dict[str, Tensor], config: Perturbation, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Squared error over all sampled genes; nothing is hidden, whatever the name MLM says.

    Where the batch has weights, a gene counts as much as its weight says; their mean is 1.
    """
    del config, generator  # the settings shape the batch, and nothing is drawn here
    predicted_BT = model(batch["genes"], batch["control"], batch["flags"])
    error_BT = F.mse_loss(predicted_BT.float(), batch["perturbed"], reduction="none")
    if "weights" in batch:
        error_BT = error_BT * batch["weights"]
    return error_BT.sum(), batch["perturbed"].numel()
