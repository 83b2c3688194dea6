"""Gradients of sums, made those of means, no longer than allowed, in one pass over them."""

import torch
from torch import Tensor

from vcpipe.training.distributed import Process, begin_sum, is_divided, own_part


class Gradients:
    """Those of some weights; nothing here waits for the device."""

    def __init__(self, weights: list[Tensor], process: Process):
        self.weights, self.process = weights, process
        self.are_divided = any(is_divided(weight) for weight in weights)

    def forget(self) -> None:
        for weight in self.weights:
            weight.grad = None

    def scale(self, factor: Tensor | float, longest: float | None) -> Tensor:
        """Multiply all by a factor, and shorten them together; returns the norm of each.

        The norms stay on the device, and a factor that depends on other processes.
        """
        parts = [grad for weight in self.weights if (grad := weight.grad) is not None]
        if self.are_divided:
            parts = [own_part(part) for part in parts]
        norms = torch.stack(torch._foreach_norm(parts)) * factor
        if self.are_divided:
            squares = norms.square()
            begin_sum(squares, self.process)()
            norms = squares.sqrt()
        if longest is not None:
            # As torch's clip_grad_norm_ has it.
            whole = torch.linalg.vector_norm(norms) + 1e-6
            factor = factor * (longest / whole).clamp(max=1.0)
        torch._foreach_mul_(parts, factor)
        return norms
