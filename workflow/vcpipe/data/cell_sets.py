"""Which cells are learned from: train, val and test of atlases, drawn by names alone.

What is drawn follows the seed and the names of cells, datasets and groups, so it is the same
whatever the order of files and of the cells in them.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from vcpipe.config.fitting import CellSplit
from vcpipe.data.cell_keys import cell_keys, compiled, fraction, stream
from vcpipe.data.sources.source import CellSource
from vcpipe.errors import InputError, listed

TRAIN, VAL, TEST, LEFT_OUT = range(4)
SET_NAMES = ("train", "val", "test", "left_out")
# Tells the draw of sets apart from whatever else is drawn by a cell's key.
PURPOSE = 0x5E75
NAMES_AT_A_TIME = 1 << 16


def draw_cell_sets(
    sources: Sequence[CellSource],
    config: CellSplit,
    given: Sequence[np.ndarray | None] | None = None,
) -> list[np.ndarray]:
    """The set of every cell of every source, as uint8: TRAIN, VAL, TEST.

    `given` holds, beside each source, sets that were decided elsewhere (of screens), or None.
    """
    given = given or [None] * len(sources)
    drawn = [source for source, its in zip(sources, given, strict=True) if its is None]
    made = iter(_DRAWS[config.method](drawn, config) if drawn else [])
    return [next(made) if its is None else its for its in given]


def _random(sources: Sequence[CellSource], config: CellSplit) -> list[np.ndarray]:
    """Each cell by a number of its own: more cells or files change no other cell's set."""
    sets = []
    for source in sources:
        its = np.empty(len(source), dtype=np.uint8)
        for rows, keys in _keys(source):
            its[rows] = _set_of_fractions(_fractions(keys, config.seed), config)
        sets.append(its)
    num_cells = sum(map(len, sets))
    for number, name in ((VAL, "val"), (TEST, "test"), (TRAIN, "train")):
        share = getattr(config, name, 1.0)
        if share and not any((its == number).any() for its in sets):
            raise InputError(
                f"None of {num_cells} cells was drawn for {name} (cell_split.val {config.val}, "
                f"cell_split.test {config.test}); change the shares, or cell_split.seed."
            )
    return sets


def _set_of_fractions(fractions: np.ndarray, config: CellSplit) -> np.ndarray:
    sets = np.full(len(fractions), TRAIN, dtype=np.uint8)
    sets[fractions < config.val + config.test] = TEST
    sets[fractions < config.val] = VAL
    return sets


def _stratified(sources: Sequence[CellSource], config: CellSplit) -> list[np.ndarray]:
    """The same shares of every label, to the cell: its cells in the order of their numbers.

    Holds 12 bytes per cell while it draws.
    """
    codes, labels = _codes(sources, config.key)
    fractions = np.concatenate(
        [_fractions(keys, config.seed) for source in sources for _, keys in _keys(source)]
    )
    joined = np.concatenate(codes)
    sets = np.full(len(joined), TRAIN, dtype=np.uint8)
    too_few = []
    for code, label in enumerate(labels):
        members = np.flatnonzero(joined == code)
        members = members[np.argsort(fractions[members], kind="stable")]
        num_val, num_test = (_share(len(members), share) for share in (config.val, config.test))
        missing = (config.val and not num_val) or (config.test and not num_test)
        if missing or num_val + num_test >= len(members):
            too_few.append(f"{label} ({len(members)})")
        sets[members[:num_val]] = VAL
        sets[members[num_val : num_val + num_test]] = TEST
    if too_few:
        raise InputError(
            f"Too few cells of {config.key} {listed(too_few)} for val {config.val} and test "
            f"{config.test} of each; expected at least one in every set. Change the shares, take "
            "cell_split.method random, or leave these cells out."
        )
    return np.split(sets, np.cumsum([len(its) for its in codes])[:-1])


def _grouped(sources: Sequence[CellSource], config: CellSplit) -> list[np.ndarray]:
    """Whole groups: those that are named, or a share of them in a drawn order."""
    codes, groups = _codes(sources, config.key)
    chosen = {VAL: config.val_groups, TEST: config.test_groups}
    unknown = sorted({one for names in chosen.values() for one in names} - set(groups))
    if unknown:
        raise InputError(
            f"cell_split.val_groups or test_groups name {listed(unknown)}, which no cell has as "
            f"{config.key}; expected some of {listed(groups)}."
        )
    named = set(config.val_groups) | set(config.test_groups)
    rest = np.random.default_rng(config.seed).permutation([g for g in groups if g not in named])
    rest = rest.tolist()
    for number, share in ((VAL, config.val), (TEST, config.test)):
        if share:
            num = max(1, _share(len(groups), share))
            chosen[number], rest = rest[:num], rest[num:]
    if not rest or (config.test and not chosen[TEST]):
        raise InputError(
            f"{config.key} has {len(groups)} groups ({listed(groups)}), too few for val "
            f"{config.val_groups or config.val}, test {config.test_groups or config.test} and "
            "train; expected at least one for each. Lower the shares, or split by another key."
        )
    set_of = np.full(len(groups), TRAIN, dtype=np.uint8)
    for number, names in chosen.items():
        set_of[np.isin(groups, names)] = number
    assert not set(chosen[VAL]) & set(chosen[TEST])
    return [set_of[its] for its in codes]


_DRAWS = {"random": _random, "stratified": _stratified, "grouped": _grouped}


def label_codes(
    source: CellSource, key: str, why: str, wanted: np.ndarray | None = None
) -> tuple[np.ndarray, list[str]]:
    """A number for each cell's label, and the labels; a (wanted) cell without one is an error."""
    if key not in source.labels:
        setting = f"{key}_key" if key in ("batch", "cell_type", "donor") else "obs_columns"
        raise InputError(
            f"{why} is {key!r}, but the cells of {source.dataset} ({source.path}) have "
            f"{listed(source.labels.columns) or 'no labels'}. Name another label, or set "
            f"atlases.{source.dataset}.{setting}."
        )
    labels = source.labels[key].astype("category").cat
    codes = labels.codes.to_numpy()
    is_missing = codes < 0 if wanted is None else (codes < 0) & wanted
    num_missing = int(is_missing.sum())
    if num_missing:
        raise InputError(
            f"{num_missing} of {len(codes)} cells of {source.dataset} ({source.path}) have no "
            f"{key}; {why} needs it of every cell. Fill it in, or leave these cells out."
        )
    return codes, labels.categories.astype(str).tolist()


def _codes(sources: Sequence[CellSource], key: str) -> tuple[list[np.ndarray], list[str]]:
    """Numbers of labels that all sources share, in the order of the sorted names."""
    parts = [label_codes(source, key, "cell_split.key") for source in sources]
    present = {names[code] for codes, names in parts for code in np.unique(codes)}
    labels = sorted(present)
    place = {label: number for number, label in enumerate(labels)}
    shared = [
        np.array([place.get(name, -1) for name in names], dtype=np.int32)[codes]
        for codes, names in parts
    ]
    return shared, labels


def _share(number: int, share: float) -> int:
    """The nearest whole number, halves upwards (round() would go to the even one)."""
    return int(number * share + 0.5)


def _keys(source: CellSource) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(source), NAMES_AT_A_TIME):
        rows = np.arange(start, min(start + NAMES_AT_A_TIME, len(source)))
        yield rows, cell_keys(source.dataset, source.names(rows))


@compiled
def _fractions(keys, seed):
    """A number from 0 to 1 for each cell."""
    out = np.empty(len(keys))
    for cell in range(len(keys)):
        out[cell] = fraction(stream(seed, 0, PURPOSE, keys[cell]), 0)
    return out
