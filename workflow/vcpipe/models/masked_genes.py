"""scModelForge's transformer encoder: which genes are hidden?"""

# B cells, T tokens, D width, N hidden tokens

from torch import Tensor, nn

from vcpipe.config.model import Transformer
from vcpipe.models.gene_tokens import (
    GeneHead,
    GeneTokens,
    TokenEmbedding,
    chosen_places,
    last_norm,
    mean_of_real,
    rows_of,
)
from vcpipe.models.layers import TransformerEncoder


class MaskedGeneModel(nn.Module):
    def __init__(self, config: Transformer, tokens: GeneTokens, pooling: str):
        super().__init__()
        self.pooling = pooling
        self.embedding = TokenEmbedding(config, tokens)
        self.transformer_encoder = TransformerEncoder(config)
        self.norm = last_norm(config)
        self.gene_head = GeneHead(config, tokens)

    def forward(
        self,
        genes_BT: Tensor,
        values_BT: Tensor,
        real_BT: Tensor,
        chosen_BT: Tensor,
        target_genes_N: Tensor,
    ) -> Tensor:
        """Cross-entropy of the gene at each chosen token, [N]; the head sees no other token."""
        x_BTD = self._encode(genes_BT, values_BT, real_BT)
        places_N = chosen_places(chosen_BT, len(target_genes_N))
        return self.gene_head.losses(rows_of(x_BTD, places_N), target_genes_N)

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """The cell embedding [B, D] of cells of which nothing is hidden."""
        x_BTD = self._encode(batch["genes"], batch["values"], batch["real"])
        return x_BTD[:, 0] if self.pooling == "cls" else mean_of_real(x_BTD, batch["real"])

    def _encode(self, genes_BT: Tensor, values_BT: Tensor, real_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(genes_BT, values_BT)
        return self.norm(self.transformer_encoder(x_BTD, real_BT))
