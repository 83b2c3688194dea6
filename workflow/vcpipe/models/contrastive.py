"""scConcept's network: a view of a cell, its genes by rank or by value, becomes one unit vector."""

# B cells, T tokens, D width, V tokens of all species, E width of pretrained vectors
# P width of an embedding, M hidden values, N real tokens of all cells

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.model import Transformer
from vcpipe.config.objectives.contrastive import Contrastive
from vcpipe.models.attention import Sequences
from vcpipe.models.layers import TransformerEncoder, pack, unpack
from vcpipe.models.scgpt import ValueDecoder, ValueEncoder

# CLIP's: a factor on cosines of at most 100.
LARGEST_LOGIT_SCALE = math.log(100)


class View(NamedTuple):
    """<cls> and genes of some cells, the most expressed first, padding behind them."""

    genes_BT: Tensor
    values_BT: Tensor | None  # where they are encoded; those that are hidden hold a sign instead
    place_N: Tensor | None = None  # of the real tokens among B × T; None: nothing is padded
    starts: Tensor | None = None  # int32 [B + 1], where each cell's real tokens begin
    hidden_BT: Tensor | None = None  # None: nothing is hidden
    place_M: Tensor | None = None  # of the hidden ones among B × T


class GeneEncoder(nn.Module):
    """Vectors of genes. Ids begin anew in every species: its table lies behind those before.

    One parameter holds all tables, so that a step without a species has gradients of it, too, which
    parallel training waits for.
    """

    def __init__(self, num_tokens: Sequence[int], hidden_dim: int, pretrained_VE: Tensor | None):
        super().__init__()
        first = torch.tensor([0, *num_tokens[:-1]]).cumsum(0)
        self.register_buffer("first_row", first, persistent=False)
        self.embedding = nn.Embedding(sum(num_tokens), hidden_dim)
        # Saved with the weights: a model's folder needs no other file.
        self.register_buffer("pretrained", pretrained_VE)
        if pretrained_VE is not None:
            self.adapter = nn.Linear(pretrained_VE.shape[1], hidden_dim)
            nn.init.zeros_(self.embedding.weight)
        self.linear = nn.Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, genes_BT: Tensor, species_B: Tensor, adds_learned: bool) -> Tensor:
        rows_BT = genes_BT + self.first_row[species_B][:, None]
        x_BTD = self.embedding(rows_BT)
        if self.pretrained is not None:
            # A product, not a branch: the table takes part in every step.
            x_BTD = self.adapter(F.embedding(rows_BT, self.pretrained)) + x_BTD * adds_learned
        return self.norm(self.linear(x_BTD))


class ContrastiveModel(nn.Module):
    def __init__(
        self,
        size: Transformer,
        config: Contrastive,
        num_tokens: Sequence[int],
        pretrained_VE: Tensor | None = None,
    ):
        super().__init__()
        width = size.hidden_dim
        self.ranks = config.input_encoding == "rank_encoding"
        self.encoder = GeneEncoder(num_tokens, width, pretrained_VE)
        self.cls_embedding = nn.Parameter(torch.zeros(width))
        if not self.ranks:
            self.value_encoder = ValueEncoder(width, size.dropout)
        self.transformer_encoder = TransformerEncoder(size)
        self.projection = None
        if config.projection_dim is not None:
            self.projection = nn.Linear(width, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale))
        if config.masking_rate:
            self.decoder = ValueDecoder(width)
            if self.ranks:
                self.hidden_rank = nn.Parameter(torch.zeros(width))

    def forward(
        self, first: View, second: View, species_B: Tensor, adds_learned: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Embeddings of both views [B, P], the factor on their cosines, and hidden values [M]."""
        if self.training:
            with torch.no_grad():
                self.logit_scale.clamp_(0, LARGEST_LOGIT_SCALE)
        cells, predicted = [], []
        for view in (first, second):
            x_BTD = self._encoded(view, species_B, adds_learned)
            cells.append(self._cell(x_BTD))
            if view.hidden_BT is not None:
                predicted.append(self.decoder(pack(x_BTD, view.place_M)))
        return *cells, self.logit_scale.exp(), torch.cat(predicted) if predicted else None

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """Unit vectors of cells [B, P], of genes and values; species where there are several.

        Where cells are padded, places and starts say where the real tokens are.
        """
        names = ("genes", "values", "places", "starts")
        view = View(*map(batch.get, names))
        species_B = batch.get("species", torch.zeros_like(batch["genes"][:, 0]))
        return self._cell(self._encoded(view, species_B, adds_learned=True))

    def _encoded(self, view: View, species_B: Tensor, adds_learned: bool) -> Tensor:
        x_BTD = self.encoder(view.genes_BT, species_B, adds_learned)
        x_BTD = x_BTD + (self._order(view) if self.ranks else self.value_encoder(view.values_BT))
        cls_B1D = self.cls_embedding.expand(len(x_BTD), 1, -1)
        x_BTD = torch.cat([cls_B1D, x_BTD[:, 1:]], 1)
        if view.place_N is None:
            return self.transformer_encoder(x_BTD)
        sequences = Sequences(view.starts, x_BTD.shape[1])
        x_ND = self.transformer_encoder.forward_packed(pack(x_BTD, view.place_N), sequences)
        return unpack(x_ND, view.place_N, *x_BTD.shape[:2])

    def _cell(self, x_BTD: Tensor) -> Tensor:
        x_BP = x_BTD[:, 0] if self.projection is None else self.projection(x_BTD[:, 0])
        return F.normalize(x_BP.float(), dim=-1)

    def _order(self, view: View) -> Tensor:
        """A hidden gene has no rank, nor is it counted in the ranks of others: it would be told."""
        table_TD = sinusoids(view.genes_BT.shape[1], len(self.cls_embedding)).to(
            self.cls_embedding.device
        )
        if view.hidden_BT is None:
            return table_TD
        ranks_BT = ((~view.hidden_BT).cumsum(1) - 1).clamp(min=0)
        return torch.where(
            view.hidden_BT[..., None], self.hidden_rank, F.embedding(ranks_BT, table_TD)
        )


def sinusoids(num_places: int, width: int) -> Tensor:
    """The transformer's encoding of places: sines and cosines of growing wavelengths, in turn."""
    place_T1 = torch.arange(num_places, dtype=torch.float32)[:, None]
    wave_D = torch.arange(0, width, 2) * (-math.log(10_000.0) / width)
    angle = place_T1 * wave_D.exp()
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
