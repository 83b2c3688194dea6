"""scModelForge's masked autoencoder: the values of hidden genes from an encoding of the others."""

# B cells, T tokens of the longest, N real tokens of all, M hidden ones, S shown ones, D width,
# E width of the decoder

from torch import Tensor, nn

from vcpipe.config.model import Transformer
from vcpipe.config.objectives.masked_autoencoder import MaskedAutoencoder
from vcpipe.models.attention import Sequences
from vcpipe.models.gene_tokens import (
    GENE_TABLES,
    Cells,
    GeneTokens,
    Pooling,
    TokenEmbedding,
    cells_of,
    last_norm,
    packed,
    through,
)
from vcpipe.models.layers import TransformerEncoder


class MaskedAutoencoderModel(nn.Module):
    gene_tables = GENE_TABLES[:1]

    def __init__(self, config: Transformer, tokens: GeneTokens, settings: MaskedAutoencoder):
        super().__init__()
        self.embedding = TokenEmbedding(config, tokens)
        self.transformer_encoder = TransformerEncoder(config)
        self.norm = last_norm(config)
        self.pooling = Pooling(settings.pooling)
        size = settings.decoder_size(config)
        decoder = Transformer(
            **size,
            num_layers=settings.decoder_layers,
            ffn_dim=4 * size["hidden_dim"],
            **config.model_dump(include={"dropout", "activation", "norm"}),
        )
        self.to_decoder = nn.Linear(config.hidden_dim, decoder.hidden_dim)
        self.query = nn.Linear(config.hidden_dim, decoder.hidden_dim)
        self.decoder = TransformerEncoder(decoder)
        self.decoder_norm = last_norm(decoder)
        self.value_head = nn.Sequential(
            nn.Linear(decoder.hidden_dim, decoder.hidden_dim),
            nn.GELU(),
            nn.Linear(decoder.hidden_dim, 1),
        )

    def forward(
        self,
        genes_BT: Tensor,
        values_BT: Tensor,
        places_N: Tensor,
        starts: Tensor,
        shown_S: Tensor,
        shown_starts: Tensor,
        scored_M: Tensor,
        target_genes_M: Tensor,
    ) -> Tensor:
        """Predict the values of the packed tokens scored_M, [M].

        places_N are the real tokens, cell by cell. The encoder gets those that are shown, which are
        the packed ones at shown_S; the decoder asks for the hidden genes by their identity.
        """
        shown = packed(genes_BT, values_BT, places_N.index_select(0, shown_S), shown_starts)
        shown_SE = self.to_decoder(self._encode(shown))
        query_ME = self.query(self.embedding.gene(target_genes_M)).to(shown_SE.dtype)
        x_NE = shown_SE.new_zeros(len(places_N), shown_SE.shape[1])
        x_NE = x_NE.index_copy(0, shown_S, shown_SE).index_copy(0, scored_M, query_ME)
        x_NE = through(self.decoder, x_NE, Sequences(starts, genes_BT.shape[1]))
        return self.value_head(self.decoder_norm(x_NE.index_select(0, scored_M))).squeeze(-1)

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """The cell embedding [B, D] of cells of which nothing is hidden."""
        cells = cells_of(batch)
        return self.pooling(self._encode(cells), cells)

    def _encode(self, cells: Cells) -> Tensor:
        sequences = Sequences(cells.starts, cells.longest)
        return self.norm(through(self.transformer_encoder, self.embedding(cells), sequences))
