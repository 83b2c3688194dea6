"""How whole perturbations are drawn into train, val and test: GEARS's methods, and k_fold.

For the same list of perturbations and the same seed, GEARS's methods give the lists of cell-gears
0.1.2, to the last draw. Where GEARS has no val because a tenth rounds to nothing, one is drawn.
A perturbation in none of the three lists is unused: GEARS holds it out of everything.
"""

from collections.abc import Callable, Iterable

import numpy as np

from vcpipe.config.splits import Split
from vcpipe.data.screen import perturbed_genes
from vcpipe.errors import InputError, listed

VAL_FRACTION = 0.1  # GEARS's, and not to be set there

Sets = dict[str, list[str]]
Subgroups = dict[str, list[str]]
Drawn = tuple[Sets, dict[str, Subgroups]]


def simulation(perturbations: list[str], split: Split) -> Drawn:
    """A share of target genes is never seen in train; a tenth of the seen genes is val."""
    seen, test, test_subgroup = _by_gene(
        perturbations, split.train_gene_set_size, split.combo_seen2_train_fraction, split.seed
    )
    train, val, val_subgroup = _by_gene(seen, 1 - VAL_FRACTION, 0.9, split.seed)
    sets = {"train": train, "val": val, "test": test}
    advice = (
        f"this needs 3 target genes; train_gene_set_size is {split.train_gene_set_size}, raise it"
    )
    _refuse_empty(sets, perturbations, advice)
    return sets, {"test_subgroup": test_subgroup, "val_subgroup": val_subgroup}


def simulation_single(perturbations: list[str], split: Split) -> Drawn:
    """The simulation split of a screen of single genes.

    GEARS draws it but cannot hand it on ("too many values to unpack"): it forgets the subgroups.
    """
    combos = _combos(perturbations)
    if combos:
        raise InputError(
            f"Method simulation_single is for screens of single genes, but there are "
            f"{listed(combos)}; use method simulation, which splits combinations too."
        )
    sets, subgroups = simulation(perturbations, split)
    return sets, {
        name: {"unseen_single": part["unseen_single"]} for name, part in subgroups.items()
    }


def single(perturbations: list[str], split: Split) -> Drawn:
    """Single perturbations of drawn genes are held out; combinations with these are unused."""
    return _test_then_val(perturbations, split, _hold_out_singles)


def combo_seen0(perturbations: list[str], split: Split) -> Drawn:
    """Drawn genes are held out, alone and together; their combinations with others are unused."""
    _require_combos(perturbations, split)
    return _test_then_val(perturbations, split, _hold_out_genes)


def combo_seen1(perturbations: list[str], split: Split) -> Drawn:
    """Drawn genes are held out, alone and in all their combinations."""
    _require_combos(perturbations, split)
    return _test_then_val(perturbations, split, _hold_out_genes_and_combos)


def combo_seen2(perturbations: list[str], split: Split) -> Drawn:
    """Drawn combinations are held out, no single; depends on the order of cells, as in GEARS."""
    _require_combos(perturbations, split)
    return _test_then_val(perturbations, split, _hold_out_combos)


def no_test(perturbations: list[str], split: Split) -> Drawn:
    """A tenth of perturbations is val, none test; depends on the order of cells, as in GEARS."""
    generator = np.random.RandomState(split.seed)
    # GEARS draws genes first and throws them away; so must we, to stand where it stands.
    _draw_genes(perturbations, VAL_FRACTION, generator)
    val = _draw(perturbations, int(len(perturbations) * VAL_FRACTION) or 1, generator)
    sets = {"train": _without(perturbations, val), "val": val}
    _refuse_empty(sets, perturbations, "convert a screen of 2 or more")
    return sets | {"test": []}, {}


def no_split(perturbations: list[str], split: Split) -> Drawn:
    """All perturbations are in train."""
    return {"train": perturbations, "val": [], "test": []}, {}


def k_fold(perturbations: list[str], split: Split) -> Drawn:
    """Target genes are dealt into folds; whatever has a gene of one fold is test.

    Each single is test in one fold, a combination in the folds of both genes. Of the genes that
    remain in train a tenth, at least one, is val with whatever has it.
    """
    genes = genes_of(perturbations)
    if len(genes) < split.num_folds:
        raise InputError(
            f"num_folds is {split.num_folds}, but there are {len(genes)} target genes "
            f"({listed(genes)}); lower num_folds to {len(genes)} at most."
        )
    generator = np.random.default_rng(split.seed)
    test_genes = np.array_split(generator.permutation(genes), split.num_folds)[split.fold]
    test = _with_any(perturbations, test_genes)
    seen = _without(perturbations, test)
    seen_genes = genes_of(seen)
    num_val = max(1, int(len(seen_genes) * VAL_FRACTION))
    val = _with_any(seen, generator.permutation(seen_genes)[:num_val])
    sets = {"train": _without(seen, val), "val": val, "test": test}
    _refuse_empty(sets, perturbations, f"num_folds is {split.num_folds}, raise it")
    return sets, {}


def genes_of(perturbations: Iterable[str]) -> list[str]:
    return sorted({gene for one in perturbations for gene in perturbed_genes(one)})


def _by_gene(
    perturbations: list[str], gene_fraction: float, combo_fraction: float, seed: int
) -> tuple[list[str], list[str], Subgroups]:
    """GEARS's get_simulation_split: perturbations of drawn genes, the others, and their kinds."""
    genes = genes_of(perturbations)
    # RandomState draws what GEARS draws from numpy's global generator, without touching that.
    drawn = np.random.RandomState(seed).choice(
        genes, int(len(genes) * gene_fraction), replace=False
    )
    seen = set(drawn.tolist())
    singles, combos = _singles(perturbations), _combos(perturbations)
    num_seen = {one: len(seen & set(perturbed_genes(one))) for one in perturbations}

    both_seen = sorted(one for one in combos if num_seen[one] == 2)
    kept = np.random.RandomState(seed).choice(
        both_seen, int(len(both_seen) * combo_fraction), replace=False
    )
    subgroup = {
        "combo_seen0": [one for one in combos if num_seen[one] == 0],
        "combo_seen1": [one for one in combos if num_seen[one] == 1],
        "combo_seen2": sorted(set(both_seen) - set(kept.tolist())),
        "unseen_single": [one for one in singles if num_seen[one] == 0],
    }
    train = [one for one in singles if num_seen[one] == 1] + kept.tolist()
    # GEARS's order: val is drawn from train as it is listed here.
    order = ("combo_seen1", "combo_seen2", "unseen_single", "combo_seen0")
    return train, [one for group in order for one in subgroup[group]], subgroup


HeldOut = tuple[list[str], list[str]]  # held out, unused
HoldOut = Callable[[list[str], float, np.random.RandomState, int], HeldOut]


def _test_then_val(perturbations: list[str], split: Split, hold_out: HoldOut) -> Drawn:
    """GEARS's get_split_list twice, with one generator: test from all, then val from the rest."""
    fraction = split.combo_single_split_test_set_fraction
    generator = np.random.RandomState(split.seed)
    test, unused = hold_out(perturbations, fraction, generator, 0)
    rest = _without(perturbations, test + unused)
    val, unused = hold_out(rest, VAL_FRACTION, generator, 1)
    sets = {"train": _without(rest, val + unused), "val": val, "test": test}
    change = "lower it" if test else "raise it"
    advice = f"combo_single_split_test_set_fraction is {fraction}, {change}, try another seed"
    _refuse_empty(sets, perturbations, advice)
    return sets, {}


def _hold_out_singles(
    perturbations: list[str], fraction: float, generator: np.random.RandomState, least: int
) -> HeldOut:
    drawn = _draw_genes(perturbations, fraction, generator, least)
    return _with_any(_singles(perturbations), drawn), _with_any(_combos(perturbations), drawn)


def _hold_out_genes(
    perturbations: list[str], fraction: float, generator: np.random.RandomState, least: int
) -> HeldOut:
    drawn = _draw_genes(perturbations, fraction, generator, least)
    touched = _with_any(perturbations, drawn)
    held_out = [one for one in touched if set(perturbed_genes(one)) <= set(drawn)]
    return held_out, _without(touched, held_out)


def _hold_out_genes_and_combos(
    perturbations: list[str], fraction: float, generator: np.random.RandomState, least: int
) -> HeldOut:
    drawn = _draw_genes(perturbations, fraction, generator, least)
    return _with_any(perturbations, drawn), []


def _hold_out_combos(
    perturbations: list[str], fraction: float, generator: np.random.RandomState, least: int
) -> HeldOut:
    _draw_genes(perturbations, fraction, generator)  # thrown away, as in no_test
    combos = _combos(perturbations)
    return _draw(combos, max(int(len(combos) * fraction), least), generator), []


def _draw_genes(
    perturbations: list[str], fraction: float, generator: np.random.RandomState, least: int = 0
) -> list[str]:
    """Genes of singles and combinations, as many as a share of the singles alone (GEARS)."""
    number = max(int(len(_singles(perturbations)) * fraction), least)
    return _draw(genes_of(perturbations), number, generator)


def _draw(names: list[str], number: int, generator: np.random.RandomState) -> list[str]:
    """Draw with replacement, as GEARS does: often fewer than `number`."""
    if not names:
        return []
    return list(dict.fromkeys(generator.choice(names, number).tolist()))


def _singles(perturbations: list[str]) -> list[str]:
    return [one for one in perturbations if len(perturbed_genes(one)) == 1]


def _combos(perturbations: list[str]) -> list[str]:
    return [one for one in perturbations if len(perturbed_genes(one)) == 2]


def _with_any(perturbations: list[str], genes: Iterable[str]) -> list[str]:
    genes = set(genes)
    return [one for one in perturbations if genes & set(perturbed_genes(one))]


def _without(perturbations: list[str], others: list[str]) -> list[str]:
    others = set(others)
    return [one for one in perturbations if one not in others]


def _require_combos(perturbations: list[str], split: Split) -> None:
    if not _combos(perturbations):
        raise InputError(
            f"Method {split.method} holds out combinations of two genes, but all "
            f"{len(perturbations)} perturbations are of single genes; use method single."
        )


def _refuse_empty(sets: Sets, perturbations: list[str], advice: str) -> None:
    """Every set gets at least one perturbation; GEARS fails later, without val or test."""
    empty = [name for name, members in sets.items() if not members]
    if empty:
        genes = genes_of(perturbations)
        raise InputError(
            f"The split leaves {' and '.join(empty)} empty: {len(genes)} target genes "
            f"({listed(genes)}) in {len(perturbations)} perturbations; expected at least one "
            f"perturbation in each of {', '.join(sets)}; {advice}, "
            "or use method no_split or custom."
        )
