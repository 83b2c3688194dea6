"""A linear classifier with several heads: scDataset's, which is loader-bound on any machine."""

# B cells, G genes, T tasks, K classes of all tasks

import torch
from torch import Tensor, nn


class MultiTaskLinear(nn.Module):
    """One matrix for all heads, since one product of B × G and G × K is faster than four."""

    def __init__(self, num_genes: int, num_classes_T: list[int]):
        super().__init__()
        self.num_classes_T = list(num_classes_T)
        self.heads = nn.Linear(num_genes, sum(num_classes_T))
        # Each head as if it stood alone: Xavier's bounds depend on the number of classes.
        with torch.no_grad():
            for weight_KG in self.heads.weight.split(self.num_classes_T):
                nn.init.xavier_uniform_(weight_KG)
        nn.init.zeros_(self.heads.bias)

    def forward(self, values_BG: Tensor) -> tuple[Tensor, ...]:
        """Logits of each task."""
        return self.heads(values_BG).split(self.num_classes_T, dim=1)
