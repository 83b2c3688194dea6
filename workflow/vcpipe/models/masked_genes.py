"""scModelForge's transformer encoder: which genes are hidden?"""

# B cells, T tokens of the longest, N real tokens of all, M hidden ones, D width

from torch import Tensor, nn

from vcpipe.config.model import Transformer
from vcpipe.models.attention import Sequences
from vcpipe.models.gene_tokens import (
    GENE_TABLES,
    Cells,
    GeneHead,
    GeneTokens,
    Pooling,
    TokenEmbedding,
    cells_of,
    last_norm,
    packed,
    through,
)
from vcpipe.models.layers import TransformerEncoder


class MaskedGeneModel(nn.Module):
    gene_tables = GENE_TABLES

    def __init__(self, config: Transformer, tokens: GeneTokens, pooling: str):
        super().__init__()
        self.embedding = TokenEmbedding(config, tokens)
        self.transformer_encoder = TransformerEncoder(config)
        self.norm = last_norm(config)
        self.pooling = Pooling(pooling)
        self.gene_head = GeneHead(config, tokens)

    def forward(
        self,
        genes_BT: Tensor,
        values_BT: Tensor,
        places_N: Tensor,
        starts: Tensor,
        scored_M: Tensor,
        target_genes_M: Tensor,
    ) -> Tensor:
        """Cross-entropy of the gene at each of the packed tokens scored_M, [M].

        The head sees no other token. places_N are the real tokens, cell by cell.
        """
        x_ND = self._encode(packed(genes_BT, values_BT, places_N, starts))
        return self.gene_head.losses(x_ND.index_select(0, scored_M), target_genes_M)

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """The cell embedding [B, D] of cells of which nothing is hidden."""
        cells = cells_of(batch)
        return self.pooling(self._encode(cells), cells)

    def _encode(self, cells: Cells) -> Tensor:
        sequences = Sequences(cells.starts, cells.longest)
        return self.norm(through(self.transformer_encoder, self.embedding(cells), sequences))
