"""Low-rank changes of linear layers (LoRA), which are added to the weights when these are written.

peft does this for modules of its own list: the joint query, key and value projection is a parameter
of scGPT's attention and no module, so it would be left out, or its name would change.
"""

# I numbers in, O numbers out, R rank

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from vcpipe.config.adapting import Lora
from vcpipe.errors import InputError, listed
from vcpipe.models.layers import SelfAttention

# What a change is called beside a weight of its module: linear1.weight and linear1.lora.down.
LINEAR, FUSED = "lora", "in_proj_lora"
DOWN, UP = "down", "up"


class LowRank(nn.Module):
    """A change of a linear layer's output; nothing at first."""

    def __init__(self, num_in: int, num_out: int, config: Lora):
        super().__init__()
        self.scale = config.alpha / config.rank
        self.dropout = nn.Dropout(config.dropout)
        self.down = nn.Parameter(torch.empty(config.rank, num_in))
        self.up = nn.Parameter(torch.zeros(num_out, config.rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return (self.dropout(x) @ self.down.T) @ self.up.T * self.scale


def add_lora(
    model: nn.Module, config: Lora, within: Sequence[str] = ("",), frozen: Sequence[str] = ()
) -> list[str]:
    """Have linear layers of a model learn low-rank changes; returns the names of these layers.

    Only layers whose names begin with one of `within` are there to be chosen, and none that begins
    with one of `frozen`. The weights of chosen layers get no gradient any more; those of others are
    left as they are.
    """
    layers = {
        name: add
        for name, add in _linear_layers(model).items()
        if f"{name}.".startswith(tuple(within)) and not f"{name}.".startswith(tuple(frozen))
    }
    chosen = [name for name in layers if any(fnmatchcase(name, its) for its in config.targets)]
    unknown = [its for its in config.targets if not any(fnmatchcase(name, its) for name in layers)]
    if unknown:
        raise InputError(
            f"lora.targets has {listed(unknown)}, which is the name of no pretrained linear layer "
            f"that is not frozen; there are {listed(layers, 30)}."
        )
    for name in chosen:
        layers[name](config)
    return chosen


def _linear_layers(model: nn.Module) -> dict[str, Callable[[Lora], None]]:
    """By name, what adds a change to a linear layer; of whatever kind."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, SelfAttention):
            found[f"{name}.in_proj"] = _adder(_add_to_attention, module)
        elif isinstance(module, nn.Linear):
            found[name] = _adder(_add_to_linear, module)
    return found


def _adder(add: Callable[[nn.Module, Lora], None], module: nn.Module) -> Callable[[Lora], None]:
    return lambda config: add(module, config)


def _add_to_linear(module: nn.Linear, config: Lora) -> None:
    module.requires_grad_(False)
    module.register_module(LINEAR, LowRank(module.in_features, module.out_features, config))
    module.register_forward_hook(_changed)


def _changed(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output + module.get_submodule(LINEAR)(inputs[0])


def _add_to_attention(module: SelfAttention, config: Lora) -> None:
    module.in_proj_weight.requires_grad_(False)
    module.in_proj_bias.requires_grad_(False)
    num_out, num_in = module.in_proj_weight.shape
    module.in_proj_lora = LowRank(num_in, num_out, config)


def merged(state: dict[str, Tensor], config: Lora) -> dict[str, Tensor]:
    """A model's weights with their changes added, under the names they had before."""
    scale = config.alpha / config.rank
    weights = {name: its for name, its in state.items() if not _is_change(name)}
    for name, down in state.items():
        if name.endswith(f".{FUSED}.{DOWN}"):
            prefix, weight = name.removesuffix(f"{FUSED}.{DOWN}"), "in_proj_weight"
        elif name.endswith(f".{LINEAR}.{DOWN}"):
            prefix, weight = name.removesuffix(f"{LINEAR}.{DOWN}"), "weight"
        else:
            continue
        up = state[name.removesuffix(DOWN) + UP]
        weights[prefix + weight] = weights[prefix + weight] + scale * (up @ down)
    return weights


def _is_change(name: str) -> bool:
    return name.split(".")[-2:-1] in ([LINEAR], [FUSED])


def freeze(model: nn.Module, prefixes: list[str]) -> None:
    """Weights whose names begin so get no gradient; low-rank changes of them still do."""
    weights = dict(model.named_parameters())
    unknown = [its for its in prefixes if not any(name.startswith(its) for name in weights)]
    if unknown:
        raise InputError(
            f"freeze has {listed(unknown)}, with which the name of no weight begins; there are "
            f"{listed(weights, 30)}."
        )
    for name, weight in weights.items():
        if name.startswith(tuple(prefixes)) and not _is_change(name):
            weight.requires_grad_(False)
