"""Cell types or batches whose perturbed cells are held out: which set each context belongs to."""

from collections.abc import Iterable

import numpy as np

from vcpipe.config.splits import Split
from vcpipe.data.screen import CONTROL, Screen, perturbed_genes
from vcpipe.data.split_methods import genes_of
from vcpipe.errors import InputError, listed


def sets_of_contexts(screen: Screen, split: Split) -> dict[str, str]:
    """The set of every context of the screen; all that are not named are train."""
    context = getattr(screen, split.context_key)
    known = np.unique(context).tolist()
    named = dict.fromkeys(split.val_contexts, "val") | dict.fromkeys(split.test_contexts, "test")
    unknown = [one for one in named if one not in known]
    if unknown:
        raise InputError(
            f"{screen.path} has no {split.context_key} {listed(unknown)}; those it has are "
            f"{listed(known, 60)}. Correct test_contexts and val_contexts."
        )
    set_of = dict.fromkeys(known, "train") | named
    for name in ("train", *dict.fromkeys(named.values())):
        _check_set(screen, context, name, [one for one in known if set_of[one] == name])
    for one in named:
        _check_controls(screen, context == one, f"{split.context_key} {one}")
    train = np.isin(context, [one for one in known if set_of[one] == "train"])
    # Effects of training cells are taken against the controls of their own cell type.
    for one in np.unique(screen.cell_type[train & (screen.condition != CONTROL)]):
        cells = train & (screen.cell_type == one)
        _check_controls(screen, cells, f"cell type {one} in the train contexts")
    return set_of


def _check_set(screen: Screen, context: np.ndarray, name: str, contexts: list[str]) -> None:
    """A set needs perturbed cells, and a held-out one is of a single cell type."""
    cells = np.isin(context, contexts)
    if not (cells & (screen.condition != CONTROL)).any():
        where = f"its contexts are {listed(contexts)}" if contexts else "no context remains for it"
        raise InputError(
            f"{screen.path} has no perturbed cells for {name}: {where}. "
            "Change test_contexts and val_contexts."
        )
    cell_types = np.unique(screen.cell_type[cells])
    if name != "train" and len(cell_types) > 1:
        raise InputError(
            f"The {name} contexts {listed(contexts)} of {screen.path} hold several "
            f"cell types ({listed(cell_types)}), which must not be pooled; expected "
            "contexts of one. Set context_key: cell_type, or split the screen by cell type first."
        )


def _check_controls(screen: Screen, cells: np.ndarray, name: str) -> None:
    number = np.count_nonzero(cells & (screen.condition == CONTROL))
    if number < 2:
        raise InputError(
            f"{screen.path} has {number} control cells of {name}; expected at least 2, half of "
            "them are for models and half for scoring. Hold out other contexts."
        )


def context_subgroup(condition: str, set_name: str, train: Iterable[str]) -> str:
    """What of a held-out condition in a held-out context the training perturbations have shown.

    >>> [context_subgroup(one, "test", ["A+ctrl", "B+ctrl"]) for one in ("A+ctrl", "A+B", "A+C")]
    ['unseen_context', 'unseen_context_and_perturbation', 'unseen_context_and_gene']
    """
    if condition == CONTROL:
        return "control"
    if set_name == "train":
        return set_name
    if condition in train:
        return "unseen_context"
    seen = set(perturbed_genes(condition)) <= set(genes_of(train))
    return "unseen_context_and_perturbation" if seen else "unseen_context_and_gene"
