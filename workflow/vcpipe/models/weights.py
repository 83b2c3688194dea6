"""Moving weights between models by name: all that was promised, or an error."""

import re

from torch import Tensor, nn

from vcpipe.errors import InputError, listed

# scGPT names attention in three ways: its released checkpoint and flash-attn 1 say Wqkv, scGPT
# 0.2.5 puts that under _impl, and torch says in_proj. The layout (q, k, v; heads) is the same.
RENAMES = (
    (re.compile(r"self_attn\._impl\."), "self_attn."),
    (re.compile(r"self_attn\.Wqkv\.(weight|bias)$"), r"self_attn.in_proj_\1"),
)


def with_torch_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in RENAMES:
            name = pattern.sub(replacement, name)
        renamed[name] = tensor
    return renamed


def take_weights(
    model: nn.Module, state: dict[str, Tensor], prefixes: tuple[str, ...], source: str
) -> list[str]:
    """Copy every weight of the model under the prefixes from a checkpoint; return their names.

    scGPT skips what does not fit, and finetunes random weights without a word.
    """
    own = model.state_dict()
    wanted = [name for name in own if name.startswith(prefixes)]
    state = with_torch_names(state)
    missing = [name for name in wanted if name not in state]
    if missing:
        raise InputError(
            f"{source} lacks {listed(missing)}; expected all {len(wanted)} weights under "
            f"{', '.join(prefixes)}. It holds {listed(state)}."
        )
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in wanted
        if state[name].shape != own[name].shape
    ]
    if wrong:
        raise InputError(f"{source} has weights of another size: {listed(wrong)}.")
    model.load_state_dict({name: state[name] for name in wanted}, strict=False)
    return wanted
