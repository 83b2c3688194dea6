"""scModelForge's autoregressive transformer: which gene comes next, and with which bin?"""

# B cells, T tokens of the longest, N real tokens of all, M of these that have a next one, D width,
# V tokens of the vocabulary

import torch
from torch import Tensor, nn

from vcpipe.config.model import Transformer
from vcpipe.models.attention import Sequences
from vcpipe.models.gene_tokens import (
    GENE_TABLES,
    BinHead,
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


class NextGeneModel(nn.Module):
    """A token sees those before it; a summary token behind the last gene sees the whole cell."""

    def __init__(
        self,
        config: Transformer,
        tokens: GeneTokens,
        pooling: str,
        predicts_genes: bool = True,
        predicts_bins: bool = True,
    ):
        super().__init__()
        self.embedding = TokenEmbedding(config, tokens)
        self.summary_D = nn.Parameter(torch.randn(config.hidden_dim)) if pooling == "cls" else None
        self.transformer_encoder = TransformerEncoder(config)
        self.norm = last_norm(config)
        self.mean = Pooling("mean")
        self.gene_head = GeneHead(config, tokens) if predicts_genes else None
        # Without a head for genes there is one table.
        self.gene_tables = GENE_TABLES if predicts_genes else GENE_TABLES[:1]
        self.bin_head = BinHead(config.hidden_dim, tokens.num_bins) if predicts_bins else None

    def forward(
        self,
        genes_BT: Tensor,
        values_BT: Tensor,
        places_N: Tensor,
        starts: Tensor,
        before_M: Tensor,
    ) -> dict[str, Tensor]:
        """Cross-entropies [M] of what follows the packed tokens before_M.

        `gene` and `bin` are told from the tokens before, `cell_gene` and `cell_bin` from the cell
        embedding alone. places_N are the real tokens, cell by cell.
        """
        cells = packed(genes_BT, values_BT, places_N, starts)
        x_ND, cell_BD = self._encode(cells)
        x_MD, cell_M = x_ND.index_select(0, before_M), cells.cell_N.index_select(0, before_M)
        genes_M = cells.genes_N.index_select(0, before_M + 1).long()
        found = {}
        if self.gene_head is not None:
            found["gene"] = self.gene_head.losses(x_MD, genes_M)
            likely_BV = self.gene_head.logits(cell_BD).float().log_softmax(-1)
            found["cell_gene"] = -likely_BV[cell_M, genes_M]
        if self.bin_head is not None:
            bins_M = cells.values_N.index_select(0, before_M + 1)
            genes_MD, of_state = self.embedding.gene(genes_M), self.bin_head.of_state
            found["bin"] = self.bin_head.losses(of_state(x_MD), genes_MD, bins_M)
            state_MD = of_state(cell_BD).index_select(0, cell_M)
            found["cell_bin"] = self.bin_head.losses(state_MD, genes_MD, bins_M)
        return found

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """The cell embedding [B, D], as training computes it."""
        return self._encode(cells_of(batch))[1]

    def _encode(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """Outputs at all tokens [N, D], and the cell embeddings [B, D]."""
        x_ND, encoder = self.embedding(cells), self.transformer_encoder
        if self.summary_D is None:
            sequences = Sequences(cells.starts, cells.longest)
            x_ND = self.norm(through(encoder, x_ND, sequences, is_causal=True))
            return x_ND, self.mean(x_ND, cells)
        # Every cell becomes one token longer: its tokens move on by the summaries before them.
        cell_B = torch.arange(len(cells.starts) - 1, device=x_ND.device)
        token_N = torch.arange(len(x_ND), device=x_ND.device) + cells.cell_N
        summary_B = cells.starts[1:] + cell_B
        summary_BD = self.summary_D.to(x_ND.dtype).expand(len(cell_B), -1)
        x = x_ND.new_zeros(len(x_ND) + len(cell_B), x_ND.shape[1])
        x = x.index_copy(0, token_N, x_ND).index_copy(0, summary_B, summary_BD)
        starts = cells.starts + torch.arange(len(cells.starts), device=x.device).int()
        sequences = Sequences(starts, cells.longest + 1)
        x = self.norm(through(encoder, x, sequences, is_causal=True))
        return x.index_select(0, token_N), x.index_select(0, summary_B)
