"""The transformer block that every model shares, with torch's own parameter names."""

# B cells, T tokens, D width, H heads, K width of a head

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.model import Transformer


class SelfAttention(nn.Module):
    """Multi-head attention by scaled_dot_product_attention, which picks the device's kernel."""

    def __init__(self, config: Transformer):
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.hidden_dim, config.hidden_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.hidden_dim))
        self.out_proj = nn.Linear(config.hidden_dim, config.hidden_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x_BTD: Tensor, real_BT: Tensor | None, is_causal: bool = False) -> Tensor:
        """real_BT is False at padding; None where nothing is padded, which keeps fast kernels.

        Where it is causal, padding stands at the end, so that no real token sees it.
        """
        qkv = F.linear(x_BTD, self.in_proj_weight, self.in_proj_bias)
        q_BHTK, k_BHTK, v_BHTK = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1)
        )
        mask = None if real_BT is None or is_causal else real_BT[:, None, None, :]
        attended = F.scaled_dot_product_attention(
            *(q_BHTK, k_BHTK, v_BHTK, mask),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal,
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    def __init__(self, config: Transformer):
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.self_attn = SelfAttention(config)
        self.linear1 = nn.Linear(config.hidden_dim, config.ffn_dim)
        self.linear2 = nn.Linear(config.ffn_dim, config.hidden_dim)
        self.norm1 = nn.LayerNorm(config.hidden_dim)
        self.norm2 = nn.LayerNorm(config.hidden_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = {"relu": F.relu, "gelu": F.gelu}[config.activation]

    def forward(self, x_BTD: Tensor, real_BT: Tensor | None, is_causal: bool = False) -> Tensor:
        if self.pre_norm:
            x_BTD = x_BTD + self.dropout(self.self_attn(self.norm1(x_BTD), real_BT, is_causal))
            return x_BTD + self._feed_forward(self.norm2(x_BTD))
        x_BTD = self.norm1(x_BTD + self.dropout(self.self_attn(x_BTD, real_BT, is_causal)))
        return self.norm2(x_BTD + self._feed_forward(x_BTD))

    def _feed_forward(self, x_BTD: Tensor) -> Tensor:
        inner = self.dropout(self.activation(self.linear1(x_BTD)))
        return self.dropout(self.linear2(inner))


class TransformerEncoder(nn.Module):
    def __init__(self, config: Transformer):
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_layers))

    def forward(
        self, x_BTD: Tensor, real_BT: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        for layer in self.layers:
            x_BTD = layer(x_BTD, real_BT, is_causal)
        return x_BTD
