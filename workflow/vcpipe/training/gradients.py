"""Gradients of sums, made those of means, no longer than allowed, in one pass over them."""

import torch
from torch import Tensor

from vcpipe.training.distributed import Process, begin_sum, is_divided, own_part


def scale_gradients(
    weights: list[Tensor], factor: Tensor, longest: float | None, process: Process
) -> Tensor:
    """Multiply all gradients by a factor, and shorten them together; returns the norm of each.

    Nothing waits for the device: factor and norms stay there.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    parts = [own_part(gradient) for gradient in gradients]
    norms = torch.stack(torch._foreach_norm(parts)) * factor
    if any(is_divided(gradient) for gradient in gradients):
        squares = norms.square()
        begin_sum(squares, process)()
        norms = squares.sqrt()
    if longest is not None:
        # As torch's clip_grad_norm_ has it.
        factor = factor * (longest / (norms.norm() + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(parts, factor)
    return norms
