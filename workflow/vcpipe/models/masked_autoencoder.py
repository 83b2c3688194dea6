"""scModelForge's masked autoencoder: the values of hidden genes from an encoding of the others."""

# B cells, T tokens, S tokens that are shown to the encoder, D width, E width of the decoder,
# N hidden tokens

from torch import Tensor, nn

from vcpipe.config.model import Transformer
from vcpipe.config.objectives.masked_autoencoder import MaskedAutoencoder
from vcpipe.models.gene_tokens import (
    GeneTokens,
    TokenEmbedding,
    chosen_places,
    last_norm,
    mean_of_real,
    rows_of,
)
from vcpipe.models.layers import TransformerEncoder


class MaskedAutoencoderModel(nn.Module):
    def __init__(self, config: Transformer, tokens: GeneTokens, settings: MaskedAutoencoder):
        super().__init__()
        self.pooling = settings.pooling
        self.embedding = TokenEmbedding(config, tokens)
        self.transformer_encoder = TransformerEncoder(config)
        self.norm = last_norm(config)
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
        real_BT: Tensor,
        chosen_BT: Tensor,
        shown_BS: Tensor,
        is_shown_BS: Tensor,
        target_genes_N: Tensor,
    ) -> Tensor:
        """Predict the value at each chosen token, [N].

        shown_BS are the places of the tokens that the encoder gets; is_shown_BS is False behind a
        cell's last one. The decoder asks for hidden genes by their identity.
        """
        shown = genes_BT.gather(1, shown_BS), values_BT.gather(1, shown_BS), is_shown_BS
        encoded_BSE = self.to_decoder(self._encode(*shown))
        # Each shown token goes back to its place; what stands at the others is replaced or padding.
        back_BT = ((real_BT & ~chosen_BT).cumsum(1) - 1).clamp(min=0)
        index_BTE = back_BT.unsqueeze(-1).expand(-1, -1, encoded_BSE.shape[-1])
        x_BTE = encoded_BSE.gather(1, index_BTE)
        places_N = chosen_places(chosen_BT, len(target_genes_N))
        query_NE = self.query(self.embedding.gene(target_genes_N)).to(x_BTE.dtype)
        x_BTE = x_BTE.flatten(0, 1).index_copy(0, places_N, query_NE).view_as(x_BTE)
        x_BTE = self.decoder_norm(self.decoder(x_BTE, real_BT))
        return self.value_head(rows_of(x_BTE, places_N)).squeeze(-1)

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """The cell embedding [B, D] of cells of which nothing is hidden."""
        x_BTD = self._encode(batch["genes"], batch["values"], batch["real"])
        return x_BTD[:, 0] if self.pooling == "cls" else mean_of_real(x_BTD, batch["real"])

    def _encode(self, genes: Tensor, values: Tensor, real: Tensor) -> Tensor:
        return self.norm(self.transformer_encoder(self.embedding(genes, values), real))
