"""scModelForge's autoregressive transformer: which gene comes next, and with which bin?"""

# B cells, T tokens, D width, V tokens of the vocabulary, N tokens that have a next one

import torch
from torch import Tensor, nn

from vcpipe.config.model import Transformer
from vcpipe.models.gene_tokens import (
    BinHead,
    GeneHead,
    GeneTokens,
    TokenEmbedding,
    last_norm,
    mean_of_real,
    rows_of,
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
        self.gene_head = GeneHead(config, tokens) if predicts_genes else None
        self.bin_head = BinHead(config.hidden_dim, tokens.num_bins) if predicts_bins else None

    def forward(
        self, genes_BT: Tensor, values_BT: Tensor, real_BT: Tensor, before_N: Tensor
    ) -> dict[str, Tensor]:
        """Cross-entropies [N] of what follows the tokens at before_N (counted through all cells).

        `gene` and `bin` are told from the tokens before, `cell_gene` and `cell_bin` from the cell
        embedding alone.
        """
        x_BTD, cell_BD = self._encode(genes_BT, values_BT, real_BT)
        x_ND, cell_N = rows_of(x_BTD, before_N), before_N // genes_BT.shape[1]
        targets_N = genes_BT.flatten().index_select(0, before_N + 1).long()
        found = {}
        if self.gene_head is not None:
            found["gene"] = self.gene_head.losses(x_ND, targets_N)
            likely_BV = self.gene_head.logits(cell_BD).float().log_softmax(-1)
            found["cell_gene"] = -likely_BV[cell_N, targets_N]
        if self.bin_head is not None:
            bins_N = values_BT.flatten().index_select(0, before_N + 1)
            genes_ND = self.embedding.gene(targets_N)
            state_ND = self.bin_head.of_state(x_ND)
            found["bin"] = self.bin_head.losses(state_ND, genes_ND, bins_N)
            state_ND = self.bin_head.of_state(cell_BD).index_select(0, cell_N)
            found["cell_bin"] = self.bin_head.losses(state_ND, genes_ND, bins_N)
        return found

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """The cell embedding [B, D], as training computes it."""
        return self._encode(batch["genes"], batch["values"], batch["real"])[1]

    def _encode(
        self, genes_BT: Tensor, values_BT: Tensor, real_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Outputs at all tokens, and the cell embedding."""
        x_BTD = self.embedding(genes_BT, values_BT)
        if self.summary_D is None:
            x_BTD = self.norm(self.transformer_encoder(x_BTD, real_BT, is_causal=True))
            return x_BTD, mean_of_real(x_BTD, real_BT)
        # One place more, so that the summary stands behind the last gene of the longest cell, too.
        length_B1 = real_BT.sum(1, keepdim=True)
        place_T = torch.arange(real_BT.shape[1] + 1, device=real_BT.device)
        is_summary_BT1 = (place_T == length_B1).unsqueeze(-1)
        x_BTD = nn.functional.pad(x_BTD, (0, 0, 0, 1))
        x_BTD = torch.where(is_summary_BT1, self.summary_D.to(x_BTD.dtype), x_BTD)
        x_BTD = self.norm(self.transformer_encoder(x_BTD, place_T <= length_B1, is_causal=True))
        index_B1D = length_B1.unsqueeze(-1).expand(-1, -1, x_BTD.shape[-1])
        return x_BTD[:, :-1], x_BTD.gather(1, index_B1D).squeeze(1)
