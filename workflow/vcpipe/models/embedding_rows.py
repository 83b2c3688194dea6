"""A table of tokens with the rows that a data set has, in place of the whole one.

Adam leaves a row that gets no gradient as it is, and embeddings have no weight decay: training the
rows of the data is the same, with less memory and less work at every update.
"""

# V tokens of the vocabulary, U tokens of the data

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TokenRows:
    """Which rows of a whole table a smaller one has, in order."""

    name: str  # of the weight in a model's state
    ids_U: np.ndarray
    whole: Tensor  # the table as it was before training, [V, D]

    def places(self, token_ids: np.ndarray) -> np.ndarray:
        """Where tokens stand in the smaller table."""
        places = np.searchsorted(self.ids_U, token_ids)
        assert np.array_equal(self.ids_U[places], token_ids)
        return places

    def filled(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state with the whole table again; rows of other tokens are as they were."""
        table = self.whole.clone()
        table[torch.from_numpy(self.ids_U)] = state[self.name].to(table)
        return state | {self.name: table}


def keep_rows(model: nn.Module, name: str, token_ids: np.ndarray) -> TokenRows:
    """Cut an embedding of a model down to some tokens, and the one for padding."""
    whole = model.get_submodule(name)
    pad_id = whole.padding_idx
    ids_U = np.unique(np.append(token_ids, pad_id)).astype(np.int64)
    rows = TokenRows(f"{name}.weight", ids_U, whole.weight.detach().clone())
    part = nn.Embedding.from_pretrained(
        rows.whole[torch.from_numpy(ids_U)],
        freeze=False,
        padding_idx=int(np.searchsorted(ids_U, pad_id)),
    )
    model.set_submodule(name, part)
    return rows
