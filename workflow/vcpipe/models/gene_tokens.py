"""What models of a cell's genes share: their input, the embedding of a cell, and their heads."""

# B cells, T tokens, D width, W width of pretrained vectors, V tokens of the vocabulary, K bins,
# N predicted tokens

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vcpipe.config.model import Transformer

# Tokens whose logits are held at once: those of all predicted tokens would fill a device, as there
# is one for each gene of the vocabulary.
TOGETHER = 4096


@dataclass(frozen=True)
class GeneTokens:
    """What a model must know of the tokens that it reads; plain values, kept in its folder."""

    num_tokens: int
    pad_id: int
    special_ids: tuple[int, ...]  # these are no genes, so they are never predicted
    mask_value: float
    num_bins: int | None = None  # values are bins; None: any numbers
    num_positions: int = 0  # 0: the place of a token says nothing
    uses_values: bool = True
    vector_width: int | None = None  # of pretrained vectors of genes


class GeneEmbedding(nn.Module):
    """A gene -> a vector; pretrained vectors of another width are projected."""

    def __init__(self, hidden_dim: int, tokens: GeneTokens):
        super().__init__()
        width = tokens.vector_width or hidden_dim
        self.embedding = nn.Embedding(tokens.num_tokens, width, padding_idx=tokens.pad_id)
        self.projection = nn.Identity() if width == hidden_dim else nn.Linear(width, hidden_dim)

    def forward(self, genes: Tensor) -> Tensor:
        return self.projection(self.embedding(genes))

    @torch.no_grad()
    def begin_with(self, vectors_VW: Tensor, found_V: Tensor) -> None:
        """Genes that have no pretrained vector are drawn as widely as those that have one."""
        weight_VW = self.embedding.weight
        weight_VW.normal_(std=float(vectors_VW[found_V].std()) or 1.0)
        weight_VW[found_V] = vectors_VW[found_V]
        weight_VW[self.embedding.padding_idx] = 0


class NumberEmbedding(nn.Module):
    """A number -> a vector; the sign for hidden ones has a vector of its own."""

    def __init__(self, hidden_dim: int, mask_value: float):
        super().__init__()
        self.mask_value = mask_value
        self.linear1 = nn.Linear(1, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, hidden_dim)
        self.hidden_D = nn.Parameter(torch.randn(hidden_dim))

    def forward(self, values: Tensor) -> Tensor:
        is_hidden = (values == self.mask_value).unsqueeze(-1)
        x = self.linear2(F.gelu(self.linear1(values.unsqueeze(-1))))
        return torch.where(is_hidden, self.hidden_D.to(x.dtype), x)


class BinEmbedding(nn.Module):
    """A bin -> a vector; whatever is no bin (hidden ones, <cls>, padding) shares the last one."""

    def __init__(self, hidden_dim: int, num_bins: int):
        super().__init__()
        self.num_bins = num_bins
        self.embedding = nn.Embedding(num_bins + 1, hidden_dim)

    def forward(self, values: Tensor) -> Tensor:
        is_bin = (values >= 0) & (values < self.num_bins)
        return self.embedding(torch.where(is_bin, values, self.num_bins).long())


class TokenEmbedding(nn.Module):
    """Gene, value and place of each token -> its vector; padding takes no part in any other."""

    def __init__(self, config: Transformer, tokens: GeneTokens):
        super().__init__()
        self.gene = GeneEmbedding(config.hidden_dim, tokens)
        if not tokens.uses_values:
            self.value = None
        elif tokens.num_bins is None:
            self.value = NumberEmbedding(config.hidden_dim, tokens.mask_value)
        else:
            self.value = BinEmbedding(config.hidden_dim, tokens.num_bins)
        self.position = (
            nn.Embedding(tokens.num_positions, config.hidden_dim) if tokens.num_positions else None
        )
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, genes_BT: Tensor, values_BT: Tensor) -> Tensor:
        x_BTD = self.gene(genes_BT)
        if self.value is not None:
            x_BTD = x_BTD + self.value(values_BT)
        if self.position is not None:
            places_T = torch.arange(genes_BT.shape[1], device=genes_BT.device)
            x_BTD = x_BTD + self.position(places_T)
        return self.dropout(self.norm(x_BTD))


def last_norm(config: Transformer) -> nn.Module:
    """Blocks that are normalised before, not after, leave their sum as it is."""
    return nn.LayerNorm(config.hidden_dim) if config.norm == "pre" else nn.Identity()


def mean_of_real(x_BTD: Tensor, real_BT: Tensor) -> Tensor:
    """The mean over real tokens, [B, D]."""
    weights_BT1 = real_BT.unsqueeze(-1).to(x_BTD.dtype)
    return (x_BTD * weights_BT1).sum(1) / weights_BT1.sum(1).clamp(min=1)


def rows_of(x_BTD: Tensor, places_N: Tensor) -> Tensor:
    """Vectors at places that count through all cells, [N, D]."""
    return x_BTD.flatten(0, 1).index_select(0, places_N)


def chosen_places(chosen_BT: Tensor, size: int) -> Tensor:
    """Where the `size` chosen tokens are, counted through all cells; waits for no device."""
    return torch.nonzero_static(chosen_BT.flatten(), size=size).squeeze(1)


class GeneHead(nn.Module):
    """A vector -> which gene; tokens that are no genes have no probability."""

    def __init__(self, config: Transformer, tokens: GeneTokens):
        super().__init__()
        width = config.hidden_dim
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.out = nn.Linear(width, tokens.num_tokens)
        only_genes_V = torch.zeros(tokens.num_tokens)
        only_genes_V[list(tokens.special_ids)] = -torch.inf
        self.register_buffer("only_genes_V", only_genes_V)

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(self.transform(x), self.out.weight, self.out.bias + self.only_genes_V)

    def losses(self, x_ND: Tensor, genes_N: Tensor) -> Tensor:
        """Cross-entropy of each gene, [N]; logits of many are made again for their gradients."""
        if len(x_ND) <= TOGETHER:
            return self._losses(x_ND, genes_N)
        parts = zip(x_ND.split(TOGETHER), genes_N.split(TOGETHER), strict=True)
        return torch.cat(
            [
                checkpoint(self._losses, *part, use_reentrant=False, preserve_rng_state=False)
                for part in parts
            ]
        )

    def _losses(self, x_ND: Tensor, genes_N: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(x_ND).float(), genes_N.long(), reduction="none")


class BinHead(nn.Module):
    """A vector and a gene -> the gene's bin."""

    def __init__(self, hidden_dim: int, num_bins: int):
        super().__init__()
        self.of_state = nn.Linear(hidden_dim, hidden_dim)
        self.of_gene = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.norm = nn.LayerNorm(hidden_dim)
        self.out = nn.Linear(hidden_dim, num_bins)

    def losses(self, projected_ND: Tensor, genes_ND: Tensor, bins_N: Tensor) -> Tensor:
        """Cross-entropy of each bin, [N], of states that went through of_state."""
        inner_ND = self.norm(F.gelu(projected_ND + self.of_gene(genes_ND)))
        return F.cross_entropy(self.out(inner_ND).float(), bins_N.long(), reduction="none")
