"""Made-up cells as batches of tokens, for models and objectives that learn from genes."""

import numpy as np
import torch

from vcpipe.config.model import Transformer
from vcpipe.data.gene_batches import having_next, shown_tokens
from vcpipe.models.gene_tokens import GeneTokens

SIZE = Transformer(hidden_dim=32, num_layers=2, num_heads=4, ffn_dim=32, dropout=0.0, norm="pre")
CLS, PAD, MASK, OTHER, NUM_TOKENS = 0, 1, 2, 3, 24
NUM_BINS, MASK_VALUE, PAD_VALUE = 11, -1.0, -2.0
TOKENS = GeneTokens(NUM_TOKENS, PAD, (CLS, PAD, MASK, OTHER), MASK_VALUE, NUM_BINS)

Batch = dict[str, torch.Tensor]


def whole_cells(lengths: tuple[int, ...] = (9, 13, 6, 13), seed: int = 0, width: int = 0) -> Batch:
    """<cls> and some genes with bins, padded to the longest, or to more."""
    generator, width = np.random.default_rng(seed), max(width, *lengths)
    genes = np.full((len(lengths), width), PAD)
    values = np.full((len(lengths), width), PAD_VALUE, dtype=np.float32)
    for row, length in enumerate(lengths):
        genes[row, 0], values[row, 0] = CLS, 0
        drawn = generator.permutation(np.arange(OTHER + 1, NUM_TOKENS))[: length - 1]
        genes[row, 1:length] = np.sort(drawn)
        values[row, 1:length] = generator.integers(1, NUM_BINS, length - 1)
    real = np.arange(width) < np.array(lengths)[:, None]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    places = np.flatnonzero(real)
    arrays = {"genes": genes.astype(np.int32), "values": values, "real": real}
    return torched(**arrays, starts=starts, places=places)


def torched(**arrays: np.ndarray) -> Batch:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def with_next(batch: Batch) -> Batch:
    return batch | torched(before=having_next(batch["starts"].numpy()))


def with_hidden(batch: Batch, hides_genes: bool, share: float = 0.4) -> Batch:
    """Hide a share of each cell's genes; which ones does not depend on its padding."""
    chosen = torch.zeros_like(batch["real"])
    generator = np.random.default_rng(1)
    for row, length in enumerate(batch["real"].sum(1).tolist()):
        number = max(1, round((length - 1) * share))
        chosen[row, 1 + generator.permutation(length - 1)[:number]] = True
    scored = np.flatnonzero(chosen[batch["real"]].numpy())
    shown, starts = shown_tokens(batch["starts"].numpy(), scored)
    seen = {"values": batch["values"].masked_fill(chosen, MASK_VALUE)}
    if hides_genes:
        seen["genes"] = batch["genes"].masked_fill(chosen, MASK)
    targets = {
        "chosen": chosen,
        "target_genes": batch["genes"][chosen],
        "target_values": batch["values"][chosen],
    }
    return batch | seen | targets | torched(scored=scored, shown=shown, shown_starts=starts)


def of_cell(batch: Batch, row: int) -> Batch:
    """One cell of whole cells alone, without its padding."""
    length = int(batch["real"][row].sum())
    alone = {name: batch[name][row : row + 1, :length] for name in ("genes", "values", "real")}
    return alone | torched(starts=np.array([0, length], np.int32), places=np.arange(length))


def learn_by_heart(model, loss_of, batch: Batch, steps: int = 100, lr: float = 1e-2) -> float:
    """Train on one batch only; the loss of its last step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        loss, count = loss_of(model, batch)
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    assert all(weight.grad is not None for weight in model.parameters())
    return (loss / count).item()
