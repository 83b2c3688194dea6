"""The transformer block that every model shares, with torch's own parameter names."""

# B cells, T tokens of the longest, N real tokens of all, D width, H heads, K width of a head

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.model import Transformer
from vcpipe.models.attention import Sequences, attend


class SelfAttention(nn.Module):
    """Multi-head attention, of packed sequences or of cells of one length."""

    def __init__(self, config: Transformer):
        super().__init__()
        self.num_heads = config.num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.hidden_dim, config.hidden_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.hidden_dim))
        self.out_proj = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.in_proj_lora: nn.Module | None = None  # see models/lora.py
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, sequences: Sequences | None, is_causal: bool = False) -> Tensor:
        """x is [N, D] where sequences say which tokens belong together, else [B, T, D]."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        if self.in_proj_lora is not None:
            qkv = qkv + self.in_proj_lora(x)
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))
        if sequences is not None:
            return self.out_proj(attend(qkv, sequences, is_causal).flatten(1))
        qkv_3BHTK = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv_3BHTK, is_causal=is_causal)
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

    def forward(self, x: Tensor, sequences: Sequences | None, is_causal: bool = False) -> Tensor:
        if self.pre_norm:
            x = x + self.dropout(self.self_attn(self.norm1(x), sequences, is_causal))
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(x + self.dropout(self.self_attn(x, sequences, is_causal)))
        return self.norm2(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.activation(self.linear1(x)))
        return self.dropout(self.linear2(inner))


class TransformerEncoder(nn.Module):
    def __init__(self, config: Transformer):
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_layers))

    def forward(
        self, x_BTD: Tensor, real_BT: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """real_BT is False at padding, which comes out as zeros; None where nothing is padded.

        The device is asked which tokens are real: where the host knows them, pack them and take
        forward_packed.
        """
        if real_BT is None:
            return self._through(x_BTD, None, is_causal)
        place_N = real_BT.flatten().nonzero().squeeze(1)
        starts = F.pad(real_BT.sum(1).cumsum(0), (1, 0)).int()
        sequences = Sequences(starts, real_BT.shape[1])
        x_ND = self.forward_packed(pack(x_BTD, place_N), sequences, is_causal)
        return unpack(x_ND, place_N, *real_BT.shape)

    def forward_packed(self, x_ND: Tensor, sequences: Sequences, is_causal: bool = False) -> Tensor:
        """Real tokens only, one sequence after the other."""
        return self._through(x_ND, sequences, is_causal)

    def _through(self, x: Tensor, sequences: Sequences | None, is_causal: bool) -> Tensor:
        for layer in self.layers:
            x = layer(x, sequences, is_causal)
        return x


def pack(x_BT: Tensor, place_N: Tensor) -> Tensor:
    """The tokens at some places of B × T, further dimensions as they are."""
    return x_BT.flatten(0, 1).index_select(0, place_N)


def unpack(x_N: Tensor, place_N: Tensor, num_cells: int, num_tokens: int) -> Tensor:
    """Lay packed tokens at their places of B × T, and zeros elsewhere."""
    x_BT = x_N.new_zeros(num_cells * num_tokens, *x_N.shape[1:])
    return x_BT.index_copy(0, place_N, x_N).unflatten(0, (num_cells, num_tokens))
