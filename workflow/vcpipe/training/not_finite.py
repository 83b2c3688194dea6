"""Where numbers that are not finite come from: the first tensor that holds one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())


def first_not_finite(
    model: nn.Module, batch: dict[str, Tensor], loss: Callable[[], tuple[Tensor, int]]
) -> str | None:
    """In the order of a forward pass, which is done again: batch, weights, outputs, loss.

    `loss` calls the model on the batch, with the same draws as before.
    """
    for name, values in batch.items():
        if not is_finite(values):
            return f"{name} of the batch"
    for name, weight in model.named_parameters():
        if not is_finite(weight):
            return f"the weight {name}"
    found: list[str] = []

    def watching(name: str) -> Callable:
        def watch(module: nn.Module, inputs, output) -> None:
            outputs = output if isinstance(output, tuple | list) else [output]
            wrong = any(isinstance(each, Tensor) and not is_finite(each) for each in outputs)
            if wrong and not found:
                found.append(f"the output of {name} ({type(module).__name__})")

        return watch

    handles = [
        module.register_forward_hook(watching(name or "the model"))
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            value, _ = loss()
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    return None if is_finite(value) else "the loss"


def first_gradient_not_finite(model: nn.Module, norms: list[float]) -> str | None:
    """By the norms of the gradients of all weights that have one, in their order."""
    names = [name for name, weight in model.named_parameters() if weight.grad is not None]
    wrong = [
        name for name, norm in zip(names, norms, strict=True) if not torch.tensor(norm).isfinite()
    ]
    # The last layers come first when gradients are computed.
    return f"the gradient of {wrong[-1]}" if wrong else None
