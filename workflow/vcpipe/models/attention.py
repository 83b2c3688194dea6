"""Attention within sequences that lie one after the other, without gaps: one function, its kernels.

On a CPU it is an operation of our own, which takes the sequences one by one and comes with its
gradient, for it may not ask autograd. On a GPU it is torch's varlen_attn in half precision, and
padded attention where that has no kernel: in single precision, and where some tokens are unknown.
Attention weights are never dropped: the fast kernels cannot.
"""

# N tokens of all sequences, B sequences, T tokens of the longest, H heads, K width of a head

import inspect
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import varlen

HALF = (torch.float16, torch.bfloat16)
# Before torch 2.13 the argument had another name.
CAUSAL = (
    {"window_size": (-1, 0)}
    if "window_size" in inspect.signature(varlen.varlen_attn).parameters
    else {"is_causal": True}
)
# Packages that bring faster kernels of flash attention for Hopper and later, the fastest first.
FASTER_KERNELS = {"FA4": "flash_attn.cute", "FA3": "flash_attn_interface"}
HOPPER = 9  # its compute capability


class Sequences(NamedTuple):
    """Sequence i holds the tokens starts[i] to starts[i + 1]; the last start is their number."""

    starts: Tensor  # int32 [B + 1]
    longest: int  # known to the host, so that no kernel waits for the device
    # int32 [B]: the first tokens of each sequence are known; all see these, and an unknown one sees
    # itself besides (scGPT's generative mask). None: all see all.
    known: Tensor | None = None


def attend(qkv_N3HK: Tensor, sequences: Sequences, is_causal: bool = False) -> Tensor:
    """What each token sees of its own sequence, [N, H, K]."""
    assert sequences.known is None or not is_causal, "unknown tokens have no order"
    if qkv_N3HK.device.type == "cpu":
        starts, _, known = sequences
        return packed_attention(qkv_N3HK, starts, known, is_causal)[0]
    if qkv_N3HK.dtype not in HALF or sequences.known is not None:
        return padded_attention(qkv_N3HK, sequences, is_causal)
    starts, longest, _ = sequences
    causal = CAUSAL if is_causal else {}
    return varlen.varlen_attn(*qkv_N3HK.unbind(1), starts, starts, longest, longest, **causal)


def use_fastest_kernels() -> str | None:
    """Have varlen_attn use what is installed besides torch; the name of it, if there is any."""
    for name, package in FASTER_KERNELS.items():
        outer = package.partition(".")[0]
        is_installed = find_spec(outer) and find_spec(package)
        if is_installed and torch.cuda.get_device_capability()[0] >= HOPPER:
            torch.nn.attention.activate_flash_attention_impl(name)
            return name
    return None


def padded_attention(qkv_N3HK: Tensor, sequences: Sequences, is_causal: bool = False) -> Tensor:
    """The same with the sequences laid side by side; the mask keeps the fastest kernels away."""
    starts, longest, known = sequences
    num_sequences = len(starts) - 1
    token_N = torch.arange(len(qkv_N3HK), device=starts.device, dtype=starts.dtype)
    row_N = torch.searchsorted(starts[1:], token_N, right=True)
    place_N = row_N * longest + token_N - starts[row_N]
    shape = num_sequences * longest, *qkv_N3HK.shape[1:]
    padded = qkv_N3HK.new_zeros(shape).index_copy(0, place_N, qkv_N3HK)
    qkv_3BHTK = padded.unflatten(0, (num_sequences, longest)).permute(2, 0, 3, 1, 4)
    token_T = torch.arange(longest, device=starts.device)
    sees_BTT = (token_T < starts.diff()[:, None].clamp(min=1))[:, None]
    if is_causal:
        sees_BTT = sees_BTT & (token_T <= token_T[:, None])
    if known is not None:
        sees_BTT = (token_T < known[:, None])[:, None] | (token_T == token_T[:, None])
    out_BHTK = F.scaled_dot_product_attention(*qkv_3BHTK, attn_mask=sees_BTT[:, None])
    return out_BHTK.transpose(1, 2).flatten(0, 1)[place_N]


@torch.library.custom_op("vcpipe::packed_attention", mutates_args=(), device_types="cpu")
def packed_attention(
    qkv_N3HK: Tensor, starts: Tensor, known: Tensor | None, is_causal: bool
) -> tuple[Tensor, Tensor]:
    """Attention, and for its gradient the logarithm of each token's sum of weights, [N, H]."""
    out_NHK = qkv_N3HK.new_empty(qkv_N3HK[:, 0].shape)
    lse_NH = qkv_N3HK.new_empty(out_NHK.shape[:2], dtype=_precise(qkv_N3HK.dtype))
    for first, middle, last in _spans(starts, known):
        seen = qkv_N3HK[first:middle]
        if middle > first:
            out_NHK[first:middle], lse_NH[first:middle] = _forward(seen, seen, is_causal)
        if last > middle:
            unknown = slice(middle, last)
            out_NHK[unknown], lse_NH[unknown] = _forward_unknown(qkv_N3HK[unknown], seen)
    return out_NHK, lse_NH


@packed_attention.register_fake
def _(qkv_N3HK, starts, known, is_causal):
    out_NHK = qkv_N3HK.new_empty(qkv_N3HK[:, 0].shape)
    return out_NHK, qkv_N3HK.new_empty(out_NHK.shape[:2], dtype=_precise(qkv_N3HK.dtype))


@torch.library.custom_op("vcpipe::packed_attention_backward", mutates_args=(), device_types="cpu")
def packed_attention_backward(
    grad_NHK: Tensor,
    qkv_N3HK: Tensor,
    out_NHK: Tensor,
    lse_NH: Tensor,
    starts: Tensor,
    known: Tensor | None,
    is_causal: bool,
) -> Tensor:
    grads_N3HK = qkv_N3HK.new_zeros(qkv_N3HK.shape)
    grad_NHK = grad_NHK.contiguous()
    for first, middle, last in _spans(starts, known):
        seen, its = slice(first, middle), slice(middle, last)
        if middle > first:
            q, k, v = _backward(
                *(grad_NHK[seen], qkv_N3HK[seen], qkv_N3HK[seen], out_NHK[seen], lse_NH[seen]),
                is_causal,
            )
            grads_N3HK[seen, 0], grads_N3HK[seen, 1], grads_N3HK[seen, 2] = q, k, v
        if last > middle and middle > first:
            # Of the weights' softmax only its sum is asked for, which the unknown one is part of.
            q, k, v = _backward(
                *(grad_NHK[its], qkv_N3HK[its], qkv_N3HK[seen], out_NHK[its], lse_NH[its]), False
            )
            grads_N3HK[its, 0] += q
            grads_N3HK[seen, 1] += k
            grads_N3HK[seen, 2] += v
        if last > middle:
            grads_N3HK[its] += _backward_to_itself(
                grad_NHK[its], qkv_N3HK[its], out_NHK[its], lse_NH[its]
            )
    return grads_N3HK


@packed_attention_backward.register_fake
def _(grad_NHK, qkv_N3HK, out_NHK, lse_NH, starts, known, is_causal):
    return qkv_N3HK.new_empty(qkv_N3HK.shape)


def _keep(ctx, inputs, output) -> None:
    qkv_N3HK, starts, known, ctx.is_causal = inputs
    ctx.save_for_backward(qkv_N3HK, *output, starts, known)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _grads(ctx, grad_NHK, _):
    grads = packed_attention_backward(grad_NHK, *ctx.saved_tensors, ctx.is_causal)
    return grads, None, None, None


packed_attention.register_autograd(_grads, setup_context=_keep)


def _precise(kind: torch.dtype) -> torch.dtype:
    return torch.float32 if kind in HALF else kind


def _spans(starts: Tensor, known: Tensor | None) -> list[tuple[int, int, int]]:
    """First token, first unknown one and end of each sequence."""
    starts = starts.tolist()
    firsts, ends = starts[:-1], starts[1:]
    if known is None:
        return list(zip(firsts, ends, ends, strict=True))
    middles = (first + num for first, num in zip(firsts, known.tolist(), strict=True))
    return list(zip(firsts, middles, ends, strict=True))


def _heads(x_NHK: Tensor) -> Tensor:
    return x_NHK.transpose(0, 1).unsqueeze(0)


def _forward(of: Tensor, over: Tensor, is_causal: bool) -> tuple[Tensor, Tensor]:
    """Queries of some tokens over keys and values of others."""
    out_1HNK, lse_1HN = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        _heads(of[:, 0]), _heads(over[:, 1]), _heads(over[:, 2]), 0.0, is_causal
    )
    return out_1HNK[0].transpose(0, 1), lse_1HN[0].transpose(0, 1)


def _backward(
    grad_NHK: Tensor, of: Tensor, over: Tensor, out_NHK: Tensor, lse_NH: Tensor, is_causal: bool
) -> list[Tensor]:
    grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        *(_heads(grad_NHK), _heads(of[:, 0]), _heads(over[:, 1]), _heads(over[:, 2])),
        *(_heads(out_NHK), lse_NH.transpose(0, 1).unsqueeze(0), 0.0, is_causal),
    )
    return [grad[0].transpose(0, 1) for grad in grads]


def _forward_unknown(of: Tensor, over: Tensor) -> tuple[Tensor, Tensor]:
    """Unknown tokens over known ones and themselves."""
    score_NH = _score_of_itself(of)
    if not len(over):
        return of[:, 2], score_NH
    out_NHK, lse_NH = _forward(of, over, is_causal=False)
    both_NH = torch.logaddexp(lse_NH, score_NH)
    out_NHK = out_NHK * (lse_NH - both_NH).exp()[..., None]
    return out_NHK + of[:, 2] * (score_NH - both_NH).exp()[..., None], both_NH


def _score_of_itself(of: Tensor) -> Tensor:
    q_NHK, k_NHK, _ = of.to(_precise(of.dtype)).unbind(1)
    return (q_NHK * k_NHK).sum(-1) * q_NHK.shape[-1] ** -0.5


def _backward_to_itself(grad_NHK: Tensor, of: Tensor, out_NHK: Tensor, lse_NH: Tensor) -> Tensor:
    """The part of the gradient that goes through an unknown token's sight of itself."""
    q_NHK, k_NHK, v_NHK = of.to(lse_NH.dtype).unbind(1)
    weight_NH1 = (_score_of_itself(of) - lse_NH).exp()[..., None]
    towards_NH1 = (grad_NHK * (v_NHK - out_NHK)).sum(-1, keepdim=True)
    score_NH1 = weight_NH1 * towards_NH1 * q_NHK.shape[-1] ** -0.5
    grads = score_NH1 * k_NHK, score_NH1 * q_NHK, weight_NH1 * grad_NHK
    return torch.stack(grads, dim=1).to(of.dtype)
