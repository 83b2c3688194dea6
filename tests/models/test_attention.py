"""Every kernel of attention is softmax in double precision, and so are its gradients."""

# N tokens of all sequences, H heads, K width of a head

import pytest
import torch
from torch import Tensor

from vcpipe.config.model import Transformer
from vcpipe.models import attention
from vcpipe.models.attention import (
    Sequences,
    attend,
    packed_attention,
    padded_attention,
    use_fastest_kernels,
)
from vcpipe.models.layers import TransformerEncoder, pack, unpack

LENGTHS = [5, 1, 0, 9, 12]
KNOWN = [2, 1, 0, 9, 0]
HEADS, WIDTH = 2, 8
KINDS = ("full", "causal", "generative")


def sequences(kind: str, device: str = "cpu") -> Sequences:
    starts = torch.tensor([0, *LENGTHS], device=device).cumsum(0).int()
    known = torch.tensor(KNOWN, dtype=torch.int32, device=device) if kind == "generative" else None
    return Sequences(starts, max(LENGTHS), known)


def tokens(device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = sum(LENGTHS), 3, HEADS, WIDTH
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(device)


def by_softmax(qkv_N3HK: Tensor, kind: str) -> Tensor:
    """A sequence at a time, with a mask that says who sees whom."""
    made, first = [], 0
    for length, known in zip(LENGTHS, KNOWN, strict=True):
        q, k, v = qkv_N3HK[first : first + length].unbind(1)
        first += length
        token = torch.arange(length, device=q.device)
        sees = {
            "full": torch.ones(length, length, dtype=torch.bool, device=q.device),
            "causal": token <= token[:, None],
            "generative": (token < known) | (token == token[:, None]),
        }[kind]
        scores = torch.einsum("qhk,lhk->hql", q, k) / WIDTH**0.5
        weights = scores.masked_fill(~sees, -torch.inf).softmax(-1)
        made.append(torch.einsum("hql,lhk->qhk", weights, v))
    return torch.cat(made)


def with_gradient(function, qkv_N3HK: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    leaf = qkv_N3HK.detach().to(kind).clone().requires_grad_()
    out_NHK = function(leaf)
    # Another weight for each number, so that no gradient cancels.
    weight = torch.linspace(-1, 1, out_NHK.numel(), device=leaf.device).view_as(out_NHK)
    out_NHK.backward(weight.to(kind))
    return out_NHK.detach().double(), leaf.grad.double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)],
)
@pytest.mark.parametrize("kernel", [attend, padded_attention])
def test_attention_equals_softmax_in_double_precision(kernel, precision, tolerance, kind):
    expected = with_gradient(lambda x: by_softmax(x, kind), tokens(), torch.float64)
    found = with_gradient(
        lambda x: kernel(x, sequences(kind), kind == "causal"), tokens(), precision
    )
    for ours, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, exact, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)]
)
def test_attention_of_a_gpu_equals_softmax_in_double_precision(precision, tolerance, kind):
    expected = with_gradient(lambda x: by_softmax(x, kind), tokens("cuda"), torch.float64)
    found = with_gradient(
        lambda x: attend(x, sequences(kind, "cuda"), kind == "causal"), tokens("cuda"), precision
    )
    for ours, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, exact, rtol=tolerance, atol=tolerance)


def test_unknown_tokens_are_seen_by_themselves_only():
    qkv, its = tokens(), sequences("generative")
    changed = qkv.clone()
    changed[3] += 1  # the fourth token of the first sequence, which knows two
    differs = (attend(qkv, its) != attend(changed, its)).flatten(1).any(1)
    assert differs.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("kind", KINDS)
def test_the_operation_keeps_the_promises_that_compilers_rely_on(kind):
    starts, _, known = sequences(kind)
    arguments = tokens().float().requires_grad_(), starts, known, kind == "causal"
    torch.library.opcheck(packed_attention, arguments)


def test_packing_and_unpacking_move_real_tokens_only():
    x_BTD = torch.arange(24.0).view(2, 4, 3)
    place_N = torch.tensor([0, 1, 4, 5, 6])
    back = unpack(pack(x_BTD, place_N), place_N, 2, 4)
    assert torch.equal(back.flatten(0, 1)[place_N], x_BTD.flatten(0, 1)[place_N])
    assert not back[0, 2:].any()
    assert not back[1, 3].any()


@pytest.mark.parametrize(
    ("installed", "capability", "expected"),
    [
        ((), 9, None),
        (("flash_attn_interface",), 8, None),
        (("flash_attn_interface",), 9, "FA3"),
        (("flash_attn",), 9, None),
        (("flash_attn", "flash_attn.cute", "flash_attn_interface"), 10, "FA4"),
    ],
)
def test_faster_kernels_are_used_where_they_are_installed(
    monkeypatch, installed, capability, expected
):
    activated = []
    monkeypatch.setattr(attention, "find_spec", lambda name: name in installed)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (capability, 0))
    monkeypatch.setattr(torch.nn.attention, "activate_flash_attention_impl", activated.append)
    assert use_fastest_kernels() == expected
    assert activated == ([expected] if expected else [])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_encoder_of_packed_tokens_compiles_as_one_graph():
    size = Transformer(hidden_dim=16, num_layers=2, num_heads=2, ffn_dim=16, dropout=0.0)
    encoder = TransformerEncoder(size)
    compiled = torch.compile(encoder.forward_packed, fullgraph=True, dynamic=True)
    for lengths in ([3, 5], [7, 1, 2]):
        starts = torch.tensor([0, *lengths]).cumsum(0).int()
        its, x_ND = Sequences(starts, max(lengths)), torch.randn(sum(lengths), 16)
        encoder.zero_grad()
        expected = encoder.forward_packed(x_ND, its)
        expected.sum().backward()
        grads = [weight.grad.clone() for weight in encoder.parameters()]
        encoder.zero_grad()
        found = compiled(x_ND, its)
        found.sum().backward()
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close([weight.grad for weight in encoder.parameters()], grads)
