"""scGPT's networks, module for module and name for name, so that weights move both ways."""

# B cells, T tokens of the longest, N real tokens of all, M scored ones, D width,
# G genes, K classes

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.model import Transformer
from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.models.attention import Sequences
from vcpipe.models.layers import TransformerEncoder, pack
from vcpipe.models.value_bins import quantile_bins

# What finetuning takes from a pretrained folder: the seed's three prefixes.
SHARED = ("encoder.", "value_encoder.", "transformer_encoder.")


class GeneEncoder(nn.Module):
    def __init__(self, num_tokens: int, hidden_dim: int, pad_id: int):
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, hidden_dim, padding_idx=pad_id)
        self.enc_norm = nn.LayerNorm(hidden_dim)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, genes_BT: Tensor) -> Tensor:
        return self.enc_norm(self.embedding(genes_BT))

    def of_all(self) -> Tensor:
        return self.enc_norm(self.embedding.weight)


class ValueEncoder(nn.Module):
    """A number -> a vector; values above 512 are cut, as in scGPT.

    Where `bins` names all the values that there are, whole numbers, each is worked out once.
    """

    def __init__(self, hidden_dim: int, dropout: float, bins: range | None = None):
        super().__init__()
        self.bins = bins
        self.linear1 = nn.Linear(1, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        if self.bins is None or len(self.bins) >= values.numel():
            return self.dropout(self._encode(values))
        first, end = self.bins.start, self.bins.stop
        table = self._encode(torch.arange(first, end, device=values.device, dtype=values.dtype))
        return self.dropout(F.embedding(values.long() - first, table))

    def _encode(self, values: Tensor) -> Tensor:
        x = self.linear1(values.unsqueeze(-1).clamp(max=512))
        return self.norm(self.linear2(torch.relu(x)))


class ValueDecoder(nn.Module):
    """A token's vector -> its value."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).squeeze(-1)


class AffineDecoder(nn.Module):
    """The predicted value is coefficient x control value + bias, both read from the token."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.coeff_decoder = ValueDecoder(hidden_dim)
        self.bias_decoder = ValueDecoder(hidden_dim)

    def forward(self, x_BTD: Tensor, values_BT: Tensor) -> Tensor:
        return self.coeff_decoder(x_BTD) * values_BT + self.bias_decoder(x_BTD)


class ClassDecoder(nn.Module):
    """A cell's vector -> logits of classes."""

    def __init__(self, hidden_dim: int, num_classes: int, activation: type[nn.Module] = nn.ReLU):
        super().__init__()
        self._decoder = nn.ModuleList(
            layer
            for _ in range(2)
            for layer in (nn.Linear(hidden_dim, hidden_dim), activation(), nn.LayerNorm(hidden_dim))
        )
        self.out_layer = nn.Linear(hidden_dim, num_classes)

    def forward(self, cells_BD: Tensor) -> Tensor:
        for layer in self._decoder:
            cells_BD = layer(cells_BD)
        return self.out_layer(cells_BD)


class CellValueDecoder(nn.Module):
    """The values of genes, from a cell's vector alone (scGPT's MVCDecoder, by inner product)."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.gene2query = nn.Linear(hidden_dim, hidden_dim)
        self.W = nn.Linear(hidden_dim, hidden_dim, bias=False)

    def forward(
        self, cells_BD: Tensor, encoder: GeneEncoder, genes_M: Tensor, cell_M: Tensor
    ) -> Tensor:
        """Of gene i in cell cell_M[i].

        (W q) · c is q · (Wᵀ c), so W is applied once for each cell instead of once for each gene. A
        query depends on the gene alone: where genes are few, all of them are asked of all cells.
        """
        turned_BD = cells_BD @ self.W.weight
        if encoder.embedding.num_embeddings < len(genes_M):
            values_GB = self._query(encoder.of_all()) @ turned_BD.T
            return values_GB.flatten().index_select(0, genes_M.long() * len(cells_BD) + cell_M)
        query_MD = self._query(encoder(genes_M))
        return (query_MD * turned_BD.index_select(0, cell_M)).sum(-1)

    def _query(self, genes_D: Tensor) -> Tensor:
        return torch.sigmoid(self.gene2query(genes_D))


class Predicted(NamedTuple):
    """What a model says of a batch; None where it has no such head."""

    values_M: Tensor
    values_of_cells_M: Tensor | None  # from the cell's embedding alone
    values_given_cells_M: Tensor | None  # with that embedding in place of <cls>
    cells_BD: Tensor
    again_BD: Tensor | None  # the embeddings by another dropout
    batches_BK: Tensor | None
    cell_types_BK: Tensor | None


class MaskedValueModel(nn.Module):
    """Gene and value embeddings, a transformer, and a value for each token that is asked for.

    `bins` are all values there can be, where they are whole numbers.
    """

    gene_tables = ("encoder.embedding.weight",)  # with a row for each token of the vocabulary

    def __init__(
        self,
        config: Transformer,
        num_tokens: int,
        pad_id: int,
        objective: MaskedValues | None = None,
        *,
        num_batches: int = 0,
        num_cell_types: int = 0,
        bins: range | None = None,
    ):
        super().__init__()
        objective, width = objective or MaskedValues(), config.hidden_dim
        self.has_two_passes = objective.cce_weight > 0
        self.encoder = GeneEncoder(num_tokens, width, pad_id)
        self.value_encoder = ValueEncoder(width, config.dropout, bins)
        self.transformer_encoder = TransformerEncoder(config)
        self.decoder = ValueDecoder(width)
        # Row 1 stands for a hidden value; row 0 exists in scGPT's layout only.
        self.flag_encoder = nn.Embedding(2, width) if objective.attention == "generative" else None
        self.mvc_decoder = CellValueDecoder(width) if objective.mvc_weight else None
        self.cls_decoder = ClassDecoder(width, num_cell_types) if objective.cls_weight else None
        self.grad_reverse_discriminator = (
            ClassDecoder(width, num_batches, nn.LeakyReLU) if objective.dar_weight else None
        )

    def forward(
        self,
        genes_BT: Tensor,
        values_BT: Tensor,
        places_N: Tensor,
        starts: Tensor,
        scored_M: Tensor,
        known_B: Tensor | None = None,
        gives_cells: bool = False,
    ) -> Predicted:
        """Predict the values of the packed tokens scored_M; the heads see no other token.

        places_N are the real tokens, cell by cell, and each cell's first is <cls>. With gives_cells
        they are predicted a second time, from what the cells' embeddings were after the first.
        """
        genes_N, values_N = pack(genes_BT, places_N), pack(values_BT, places_N)
        sequences = Sequences(starts, genes_BT.shape[1], known_B)
        x_ND = self._embedded(genes_N, values_N, scored_M)
        out_ND = self._through(x_ND, sequences, genes_BT.numel())
        cells_BD = out_ND.index_select(0, starts[:-1])
        again_BD = None
        if self.has_two_passes:
            x_ND = self._embedded(genes_N, values_N, scored_M)
            again_BD = self._through(x_ND, sequences, genes_BT.numel()).index_select(0, starts[:-1])
        of_cells_M = None
        if self.mvc_decoder is not None:
            cell_M = torch.searchsorted(starts[1:], scored_M, right=True)
            genes_M = genes_N.index_select(0, scored_M)
            of_cells_M = self.mvc_decoder(cells_BD, self.encoder, genes_M, cell_M)
        given_cells_M = None
        if gives_cells:
            x_ND = self._embedded(genes_N, values_N, scored_M)
            # As in scGPT: no gradient goes back through an embedding that is given.
            given_BD = cells_BD.detach().to(x_ND.dtype)
            x_ND = x_ND.index_copy(0, starts[:-1].long(), given_BD)
            given_ND = self._through(x_ND, sequences, genes_BT.numel())
            given_cells_M = self.decoder(given_ND.index_select(0, scored_M))
        batches, cell_types = self.grad_reverse_discriminator, self.cls_decoder
        return Predicted(
            self.decoder(out_ND.index_select(0, scored_M)),
            of_cells_M,
            given_cells_M,
            cells_BD,
            again_BD,
            None if batches is None else batches(with_reversed_gradient(cells_BD)),
            None if cell_types is None else cell_types(cells_BD),
        )

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """The output at <cls>, [B, D]."""
        genes_BT, places_N, starts = batch["genes"], batch["places"], batch["starts"]
        x_ND = self.encoder(pack(genes_BT, places_N))
        x_ND = x_ND + self.value_encoder(pack(batch["values"], places_N))
        sequences = Sequences(starts, genes_BT.shape[1])
        return self._through(x_ND, sequences, genes_BT.numel()).index_select(0, starts[:-1])

    def _embedded(self, genes_N: Tensor, values_N: Tensor, scored_M: Tensor) -> Tensor:
        values_ND = self.value_encoder(values_N)
        if self.flag_encoder is not None:
            hidden_MD = self.flag_encoder.weight[1].to(values_ND.dtype).expand(len(scored_M), -1)
            values_ND = values_ND.index_copy(0, scored_M, hidden_MD)
        return self.encoder(genes_N) + values_ND

    def _through(self, x_ND: Tensor, sequences: Sequences, num_padded: int) -> Tensor:
        """Cells of one length, where all see all, are a plain batch."""
        if len(x_ND) < num_padded or sequences.known is not None:
            return self.transformer_encoder.forward_packed(x_ND, sequences)
        x_BTD = x_ND.unflatten(0, (-1, sequences.longest))
        return self.transformer_encoder(x_BTD).flatten(0, 1)


def with_reversed_gradient(x: Tensor) -> Tensor:
    """The same numbers; what is learned behind them is unlearned before them."""
    return 2 * x.detach() - x


class TransformerGenerator(nn.Module):
    """Control cell and perturbation flags in, perturbed cell out.

    With n_input_bins the encoder gets bins of the control's values, the decoder the values.
    """

    def __init__(self, config: Transformer, num_tokens: int, pad_id: int, n_input_bins: int = 0):
        super().__init__()
        self.n_input_bins = n_input_bins
        self.encoder = GeneEncoder(num_tokens, config.hidden_dim, pad_id)
        bins = range(n_input_bins) if n_input_bins else None
        self.value_encoder = ValueEncoder(config.hidden_dim, config.dropout, bins)
        # Row 0 (not perturbed) is padding and stays zero; row 2 exists in scGPT's layout only.
        self.pert_encoder = nn.Embedding(3, config.hidden_dim, padding_idx=0)
        self.transformer_encoder = TransformerEncoder(config)
        self.decoder = AffineDecoder(config.hidden_dim)
        # scGPT's TransformerGenerator carries this head; nothing here uses or trains it.
        self.cls_decoder = ClassDecoder(config.hidden_dim, num_classes=1).requires_grad_(False)

    def forward(self, genes_T: Tensor, control_BT: Tensor, flags_BT: Tensor) -> Tensor:
        """Every cell of a batch has the same genes, so none is padded."""
        shown_BT = control_BT
        if self.n_input_bins:
            shown_BT = quantile_bins(control_BT, self.n_input_bins)
        x_BTD = self.encoder(genes_T) + self.value_encoder(shown_BT) + self.pert_encoder(flags_BT)
        return self.decoder(self.transformer_encoder(x_BTD), control_BT)
