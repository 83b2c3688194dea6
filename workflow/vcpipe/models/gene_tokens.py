"""What models of a cell's genes share: their input, the embedding of a cell, and their heads."""

# B cells, T tokens of the longest, N real tokens of all, M of these that are predicted, D width,
# W width of pretrained vectors, V tokens of the vocabulary, K bins

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vcpipe.config.model import Transformer
from vcpipe.models.attention import Sequences
from vcpipe.models.layers import TransformerEncoder, pack, unpack

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


# Weights of a model with a row for each token of the vocabulary.
GENE_TABLES = "embedding.gene.embedding.weight", "gene_head.out.weight", "gene_head.out.bias"


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


class Cells(NamedTuple):
    """The real tokens of a batch, one cell after the other."""

    genes_N: Tensor
    values_N: Tensor
    place_N: Tensor  # int64: where each token would be if the cells were padded to B × T
    starts: Tensor  # int32 [B + 1]: cell i has the tokens starts[i] to starts[i + 1]
    longest: int

    @property
    def num_padded(self) -> int:
        return (len(self.starts) - 1) * self.longest

    @property
    def token_N(self) -> Tensor:
        """The place of each token in its cell."""
        return self.place_N % self.longest

    @property
    def cell_N(self) -> Tensor:
        return self.place_N // self.longest


def packed(genes_BT: Tensor, values_BT: Tensor, place_N: Tensor, starts: Tensor) -> Cells:
    genes_N, values_N = pack(genes_BT, place_N), pack(values_BT, place_N)
    return Cells(genes_N, values_N, place_N, starts, genes_BT.shape[1])


def cells_of(batch: dict[str, Tensor]) -> Cells:
    return packed(batch["genes"], batch["values"], batch["places"], batch["starts"])


class TokenEmbedding(nn.Module):
    """Gene, value and place of each token -> its vector."""

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

    def forward(self, cells: Cells) -> Tensor:
        x_ND = self.gene(cells.genes_N)
        if self.value is not None:
            x_ND = x_ND + self.value(cells.values_N)
        if self.position is not None:
            x_ND = x_ND + self.position(cells.token_N)
        return self.dropout(self.norm(x_ND))


def through(
    encoder: TransformerEncoder, x_ND: Tensor, sequences: Sequences, is_causal: bool = False
) -> Tensor:
    """Sequences of one length are a plain batch, which has faster kernels."""
    if len(x_ND) < (len(sequences.starts) - 1) * sequences.longest:
        return encoder.forward_packed(x_ND, sequences, is_causal)
    x_BTD = x_ND.unflatten(0, (-1, sequences.longest))
    return encoder(x_BTD, is_causal=is_causal).flatten(0, 1)


def last_norm(config: Transformer) -> nn.Module:
    """Blocks that are normalised before, not after, leave their sum as it is."""
    return nn.LayerNorm(config.hidden_dim) if config.norm == "pre" else nn.Identity()


class Pooling(nn.Module):
    """Outputs at the tokens of cells -> a vector of each cell, at <cls> or their mean."""

    def __init__(self, pooling: str):
        super().__init__()
        self.pooling = pooling

    def forward(self, x_ND: Tensor, cells: Cells) -> Tensor:
        starts = cells.starts
        if self.pooling == "cls":
            return x_ND.index_select(0, starts[:-1])
        # Laid out with zeros and summed: adding up by cell has no fixed order on a GPU.
        x_BTD = unpack(x_ND, cells.place_N, len(starts) - 1, cells.longest)
        return x_BTD.sum(1) / starts.diff().clamp(min=1).unsqueeze(-1)


class GeneHead(nn.Module):
    """A vector -> which gene; tokens that are no genes have no probability."""

    def __init__(self, config: Transformer, tokens: GeneTokens):
        super().__init__()
        width = config.hidden_dim
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.out = nn.Linear(width, tokens.num_tokens)
        only_genes_V = torch.zeros(tokens.num_tokens)
        only_genes_V[list(tokens.special_ids)] = -torch.inf
        self.register_buffer("only_genes_V", only_genes_V, persistent=False)

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(self.transform(x), self.out.weight, self.out.bias + self.only_genes_V)

    def losses(self, x_MD: Tensor, genes_M: Tensor) -> Tensor:
        """Cross-entropy of each gene, [M]; logits of many are made again for their gradients."""
        if len(x_MD) <= TOGETHER:
            return self._losses(x_MD, genes_M)
        parts = zip(x_MD.split(TOGETHER), genes_M.split(TOGETHER), strict=True)
        return torch.cat(
            [
                checkpoint(self._losses, *part, use_reentrant=False, preserve_rng_state=False)
                for part in parts
            ]
        )

    def _losses(self, x_MD: Tensor, genes_M: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(x_MD).float(), genes_M.long(), reduction="none")


class BinHead(nn.Module):
    """A vector and a gene -> the gene's bin."""

    def __init__(self, hidden_dim: int, num_bins: int):
        super().__init__()
        self.of_state = nn.Linear(hidden_dim, hidden_dim)
        self.of_gene = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.norm = nn.LayerNorm(hidden_dim)
        self.out = nn.Linear(hidden_dim, num_bins)

    def losses(self, projected_MD: Tensor, genes_MD: Tensor, bins_M: Tensor) -> Tensor:
        """Cross-entropy of each bin, [M], of states that went through of_state."""
        inner_MD = self.norm(F.gelu(projected_MD + self.of_gene(genes_MD)))
        return F.cross_entropy(self.out(inner_MD).float(), bins_M.long(), reduction="none")
