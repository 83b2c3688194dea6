"""Hide some tokens of each cell; what they were goes to the targets, and nowhere else."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vcpipe.config.tokens import Masking
from vcpipe.data.cell_keys import below, fraction, stream
from vcpipe.data.draws import CHOSEN, RATIO, SHOWN, is_taken, rounded
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.packing import ABSENT, Specials
from vcpipe.errors import InputError


class Hiding(NamedTuple):
    """Which tokens are chosen, and what a model may see of them."""

    ratios: np.ndarray  # float64; one is drawn for each cell. Without one nothing is hidden
    hides_genes: bool
    keep: float  # shares of the chosen ones that stay as they are, and that get another gene
    replace: float
    gene_ids: np.ndarray  # int32: the genes that others can be replaced with


NO_GENES = np.zeros(0, dtype=np.int32)
NOTHING = Hiding(np.zeros(0), False, 0.0, 0.0, NO_GENES)


def hidden_genes(config: Masking, special: Specials, gene_ids: np.ndarray) -> Hiding:
    """BERT's masking of exactly round(genes × mask_ratio) of each cell, at least one, never <cls>.

    Of the chosen tokens most are shown as <mask>, some as another gene (any of `gene_ids`), and
    these with the mask value in place of theirs; some keep their gene and their value.
    """
    if special.mask_id == ABSENT:
        raise InputError(
            "The vocabulary has no token for hidden genes (special_tokens.mask); masked gene "
            "prediction needs one. Add it to the vocabulary's file, or let the corpus make its own."
        )
    ratios, gene_ids = np.array([config.mask_ratio]), np.asarray(gene_ids, dtype=np.int32)
    return Hiding(ratios, True, config.keep_ratio, config.random_replace_ratio, gene_ids)


def hidden_values(mask_ratios: Sequence[float]) -> Hiding:
    """scGPT's masking: genes stay, and of a share of them, drawn per cell, the value is hidden."""
    return Hiding(np.asarray(mask_ratios, dtype=np.float64), False, 0.0, 0.0, NO_GENES)


@compiled
def num_hidden(num_genes, key, seed, epoch, ratios) -> int:
    if len(ratios) == 0:
        return 0
    ratio = ratios[below(stream(seed, epoch, RATIO, key), 0, len(ratios))]
    return min(num_genes, max(1, rounded(num_genes * ratio)))


@compiled
def choose(first, wanted, key, seed, epoch, chosen_T) -> None:
    """`wanted` of a cell's tokens behind the first ones."""
    state, left = stream(seed, epoch, CHOSEN, key), len(chosen_T) - first
    chosen_T[:first] = False
    for token in range(first, len(chosen_T)):
        chosen_T[token] = is_taken(state, left, wanted, left)
        wanted, left = wanted - chosen_T[token], left - 1


@compiled
def hide(
    hiding, special, key, seed, epoch, chosen_T, genes_T, values_T, target_genes, target_values
) -> None:
    """Move the chosen tokens of a cell to the targets."""
    state, place = stream(seed, epoch, SHOWN, key), 0
    for token in range(len(chosen_T)):
        if not chosen_T[token]:
            continue
        target_genes[place], target_values[place] = genes_T[token], values_T[token]
        place += 1
        if not hiding.hides_genes:
            values_T[token] = special.mask_value
            continue
        drawn = fraction(state, 2 * token)
        if drawn < hiding.keep:
            continue
        values_T[token] = special.mask_value
        if drawn < hiding.keep + hiding.replace:
            other = below(state, 2 * token + 1, len(hiding.gene_ids))
            genes_T[token] = hiding.gene_ids[other]
        else:
            genes_T[token] = special.mask_id
