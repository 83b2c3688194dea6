"""Hide some tokens of each cell; what they were goes to the targets, and nowhere else."""

# N tokens, M chosen ones of them

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vcpipe.config.tokens import Masking
from vcpipe.data.cell_keys import below, fraction, stream
from vcpipe.data.draws import CHOSEN, RATIO, SHOWN, is_taken, rounded
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.packing import ABSENT, Empty, Specials, Tokens, fill, padded
from vcpipe.errors import InputError


@dataclass(frozen=True)
class Masked:
    shown: Tokens  # what a model may see
    chosen: np.ndarray  # bool [N]: the tokens to predict
    target_genes: np.ndarray  # int32 [M]: what they truly are, in the order of chosen
    target_values: np.ndarray  # float32 [M]


def mask_genes(
    tokens: Tokens,
    config: Masking,
    special: Specials,
    gene_ids: np.ndarray,
    *,
    seed: int,
    epoch: int,
) -> Masked:
    """BERT's masking of exactly round(genes × mask_ratio) of each cell, at least one, never <cls>.

    Of the chosen tokens most are shown as <mask>, some as another gene (any of `gene_ids`), and
    these with the mask value in place of theirs; some keep their gene and their value.
    """
    if special.mask_id == ABSENT:
        raise InputError(
            "The vocabulary has no token for hidden genes (special_tokens.mask); masked gene "
            "prediction needs one. Add it to the vocabulary's file, or let the corpus make its own."
        )
    chosen = _choose(tokens, [config.mask_ratio], special, seed, epoch)
    genes, values = tokens.genes.copy(), tokens.values.copy()
    _hide(
        *(tokens.starts, tokens.keys, seed, epoch, chosen, config.keep_ratio),
        *(config.random_replace_ratio, np.asarray(gene_ids, dtype=np.int32)),
        *(special.mask_id, np.float32(special.mask_value), genes, values),
    )
    return _masked(tokens, genes, values, chosen)


def mask_values(
    tokens: Tokens, mask_ratios: Sequence[float], special: Specials, *, seed: int, epoch: int
) -> Masked:
    """scGPT's masking: genes stay, and of a share of them, drawn per cell, the value is hidden."""
    chosen = _choose(tokens, mask_ratios, special, seed, epoch)
    values = np.where(chosen, np.float32(special.mask_value), tokens.values)
    return _masked(tokens, tokens.genes, values, chosen)


def padded_masked(
    masked: Masked, special: Specials, empty: Empty = np.empty
) -> dict[str, np.ndarray]:
    """Arrays genes, values, real and chosen, all [B, T], and the targets [M] of chosen[B, T]."""
    batch = padded(masked.shown, special.pad_id, special.pad_value, empty)
    batch["chosen"] = empty(batch["genes"].shape, dtype=bool)
    fill(masked.shown.starts, masked.chosen, False, batch["chosen"])
    return batch | {"target_genes": masked.target_genes, "target_values": masked.target_values}


def _choose(tokens, ratios, special, seed, epoch) -> np.ndarray:
    chosen = np.zeros(len(tokens.genes), dtype=bool)
    ratios = np.asarray(ratios, dtype=np.float64)
    _choose_rows(
        *(tokens.starts, tokens.genes, tokens.keys, seed, epoch),
        *(ratios, special.cls_id, chosen),
    )
    return chosen


def _masked(tokens, genes, values, chosen) -> Masked:
    shown = Tokens(tokens.starts, genes, values, tokens.keys)
    places = np.flatnonzero(chosen)
    return Masked(shown, chosen, tokens.genes[places], tokens.values[places])


@compiled
def _choose_rows(starts, genes, keys, seed, epoch, ratios, cls_id, chosen) -> None:
    for row in range(len(starts) - 1):
        first, last = starts[row], starts[row + 1]
        if first < last and genes[first] == cls_id:
            first += 1
        left = last - first
        ratio = ratios[below(stream(seed, epoch, RATIO, keys[row]), 0, len(ratios))]
        wanted = min(left, max(1, rounded(left * ratio)))
        state = stream(seed, epoch, CHOSEN, keys[row])
        for token in range(first, last):
            chosen[token] = is_taken(state, left, wanted, left)
            wanted, left = wanted - chosen[token], left - 1


@compiled
def _hide(
    starts, keys, seed, epoch, chosen, keep, replace, gene_ids, mask_id, mask_value, genes, values
) -> None:
    for row in range(len(starts) - 1):
        state = stream(seed, epoch, SHOWN, keys[row])
        for token in range(starts[row], starts[row + 1]):
            if not chosen[token]:
                continue
            place = 2 * (token - starts[row])
            drawn = fraction(state, place)
            if drawn < keep:
                continue
            values[token] = mask_value
            if drawn < keep + replace:
                genes[token] = gene_ids[below(state, place + 1, len(gene_ids))]
            else:
                genes[token] = mask_id
