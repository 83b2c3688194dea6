"""Attention in linear time: softmax by positive random features (FAVOR+, Choromanski et al. 2021).

A softmax weight exp(q·k) is the mean of exp(w·q - |q|²/2) exp(w·k - |k|²/2) over normal w, so that
sums over keys are taken once for all queries.
"""

# B cells, T tokens, D width, H heads, K width of a head, M random features

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.model import Transformer


def orthogonal_features(num_features: int, width: int, generator: torch.Generator) -> Tensor:
    """Normal vectors, [M, K], of which every K are at right angles: they estimate more closely."""
    num_blocks = -(-num_features // width)
    normal = torch.randn(num_blocks, width, width, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    # A decomposition chooses signs by a rule; those of r make all directions equally likely.
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    directions_MK = q.transpose(1, 2).flatten(0, 1)[:num_features]
    lengths_M = torch.randn(num_features, width, generator=generator, dtype=torch.float64).norm(
        dim=1
    )
    return (directions_MK * lengths_M[:, None]).float()


def linear_attention(
    q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, real_BT: Tensor | None, features_MK: Tensor
) -> Tensor:
    """An estimate of scaled_dot_product_attention; real_BT is False at padding.

    Powers are taken relative to the largest one of each feature among the keys. These factors are
    handed to the queries, so nothing can overflow, and no sum of weights is near zero.
    """
    scale = q_BHTK.shape[-1] ** -0.25
    q_BHTM, k_BHTM = (scale * its @ features_MK.T for its in (q_BHTK, k_BHTK))
    # -|q|²/2 is the same in all weights of a query, which are divided by their sum.
    k_BHTM = k_BHTM - (scale * k_BHTK).square().sum(-1, keepdim=True) / 2
    if real_BT is not None:
        k_BHTM = k_BHTM.masked_fill(~real_BT[:, None, :, None], float("-inf"))
    largest_BH1M = k_BHTM.detach().amax(2, keepdim=True)
    k_BHTM = (k_BHTM - largest_BH1M).exp()
    q_BHTM = q_BHTM + largest_BH1M
    q_BHTM = (q_BHTM - q_BHTM.detach().amax(-1, keepdim=True)).exp()
    summed_BHTK = q_BHTM @ (k_BHTM.transpose(2, 3) @ v_BHTK)
    return summed_BHTK / (q_BHTM @ k_BHTM.sum(2)[..., None])


class PerformerAttention(nn.Module):
    def __init__(self, config: Transformer, num_features: int, generator: torch.Generator):
        super().__init__()
        self.num_heads = config.num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.hidden_dim, config.hidden_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.hidden_dim))
        self.out_proj = nn.Linear(config.hidden_dim, config.hidden_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)
        # Not learned, but part of what was learned: a folder must hold them.
        features_MK = orthogonal_features(
            num_features, config.hidden_dim // config.num_heads, generator
        )
        self.register_buffer("features", features_MK)

    def forward(self, x_BTD: Tensor, real_BT: Tensor | None) -> Tensor:
        qkv = F.linear(x_BTD, self.in_proj_weight, self.in_proj_bias)
        # Powers of 16-bit numbers would be too coarse.
        with torch.autocast(x_BTD.device.type, enabled=False):
            parts = (
                part.float().unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                for part in qkv.chunk(3, -1)
            )
            attended = linear_attention(*parts, real_BT, self.features.float())
        return self.out_proj(attended.transpose(1, 2).flatten(2).to(qkv.dtype))


class PerformerLayer(nn.Module):
    """A transformer's layer with another attention."""

    def __init__(self, config: Transformer, num_features: int, generator: torch.Generator):
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.self_attn = PerformerAttention(config, num_features, generator)
        self.linear1 = nn.Linear(config.hidden_dim, config.ffn_dim)
        self.linear2 = nn.Linear(config.ffn_dim, config.hidden_dim)
        self.norm1 = nn.LayerNorm(config.hidden_dim)
        self.norm2 = nn.LayerNorm(config.hidden_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = {"relu": F.relu, "gelu": F.gelu}[config.activation]

    def forward(self, x_BTD: Tensor, real_BT: Tensor | None) -> Tensor:
        if self.pre_norm:
            x_BTD = x_BTD + self.dropout(self.self_attn(self.norm1(x_BTD), real_BT))
            return x_BTD + self._feed_forward(self.norm2(x_BTD))
        x_BTD = self.norm1(x_BTD + self.dropout(self.self_attn(x_BTD, real_BT)))
        return self.norm2(x_BTD + self._feed_forward(x_BTD))

    def _feed_forward(self, x_BTD: Tensor) -> Tensor:
        inner = self.dropout(self.activation(self.linear1(x_BTD)))
        return self.dropout(self.linear2(inner))


class PerformerEncoder(nn.Module):
    """Takes the place of a TransformerEncoder; its features are drawn from a seed."""

    def __init__(self, config: Transformer, num_features: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(
            PerformerLayer(config, num_features, generator) for _ in range(config.num_layers)
        )

    def forward(self, x_BTD: Tensor, real_BT: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x_BTD = layer(x_BTD, real_BT)
        return x_BTD
