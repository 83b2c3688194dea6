"""Moving weights between models by name: all that was promised, or an error."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vcpipe.errors import InputError, listed

# scGPT names attention in three ways: its released checkpoint and flash-attn 1 say Wqkv, scGPT
# 0.2.5 puts that under _impl, and torch says in_proj. The layout (q, k, v; heads) is the same.
RENAMES = (
    (re.compile(r"self_attn\._impl\."), "self_attn."),
    (re.compile(r"self_attn\.Wqkv\.(weight|bias)$"), r"self_attn.in_proj_\1"),
)
# The row of a checkpoint's table for a token that it does not know.
NO_ROW = -1


@dataclass(frozen=True)
class Taken:
    """What became of the tensors of a checkpoint, and of those of a model."""

    source: str
    loaded: list[str]
    initial: list[str]  # of the model: nobody asked for them, they keep their initial values
    left_out: list[str]  # of the checkpoint: the model has no place for them, or was not asked
    num_weights: int
    # By table that was filled row by row: how many rows were found, and how many there are.
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For a log: nothing is skipped silently."""
        found = [
            f"loaded {len(self.loaded)} tensors, {self.num_weights:,} weights from {self.source}"
        ]
        found += [
            f"{name}: {here:,} of {number:,} rows found by name, the others keep initial values"
            for name, (here, number) in self.rows.items()
        ]
        if self.left_out:
            found.append(f"left out of {self.source}: {listed(self.left_out)}")
        if self.initial:
            found.append(f"not loaded, they keep initial values: {listed(self.initial)}")
        return found


def with_torch_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in RENAMES:
            name = pattern.sub(replacement, name)
        renamed[name] = tensor
    return renamed


def take_weights(
    model: nn.Module,
    state: dict[str, Tensor],
    prefixes: tuple[str, ...],
    source: str,
    rows: Mapping[str, Tensor] | None = None,
) -> Taken:
    """Copy every weight of the model under the prefixes from a checkpoint.

    scGPT skips what does not fit, and finetunes random weights without a word. `rows` has tables of
    tokens that are filled row by row: for each row of the model the checkpoint's, or NO_ROW.
    """
    own, rows = model.state_dict(), rows or {}
    wanted = [name for name in own if name.startswith(prefixes)]
    state = with_torch_names(state)
    missing = [name for name in wanted if name not in state]
    if missing:
        raise InputError(
            f"{source} lacks {listed(missing)}; expected all {len(wanted)} weights under "
            f"{', '.join(prefixes)}. It holds {listed(state)}.{_other_prefix(wanted, state)}"
        )
    # Tables of other tokens have other numbers of rows; what a row is must be the same.
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in wanted
        if state[name].shape[name in rows :] != own[name].shape[name in rows :]
    ]
    if wrong:
        raise InputError(f"{source} has weights of another size: {listed(wrong)}.")
    taken = {
        name: _by_row(own[name], state[name], rows[name]) if name in rows else state[name]
        for name in wanted
    }
    model.load_state_dict(taken, strict=False)
    found = {name: (int((rows[name] != NO_ROW).sum()), len(rows[name])) for name in rows}
    return Taken(
        source,
        wanted,
        [name for name in own if name not in taken],
        [name for name in state if name not in taken],
        sum(tensor.numel() for name, tensor in taken.items() if name not in rows)
        + sum(found[name][0] * own[name][0].numel() for name in rows),
        found,
    )


def _other_prefix(wanted: list[str], state: Mapping[str, Tensor]) -> str:
    """What to do where all names are there, behind a word that a wrapper has left."""
    words = {name.removesuffix(wanted[0]) for name in state if name.endswith(f".{wanted[0]}")}
    found = [word for word in sorted(words) if all(word + name in state for name in wanted)]
    return f" They are there behind {found[0]!r}; save them without it." if found else ""


def _by_row(own: Tensor, other: Tensor, row_of: Tensor) -> Tensor:
    filled, known = own.clone(), row_of != NO_ROW
    filled[known] = other[row_of[known]].to(own.dtype)
    return filled


def rows_by_name(ids: Mapping[str, int], other_ids: Mapping[str, int]) -> Tensor:
    """For each token of a vocabulary, by id, the number of the same name in another."""
    row_of = torch.full((len(ids),), NO_ROW, dtype=torch.int64)
    for name, number in ids.items():
        row_of[number] = other_ids.get(name, NO_ROW)
    return row_of
