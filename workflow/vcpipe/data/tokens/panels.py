"""Two gene panels, drawn for a global batch or for a cell (scConcept).

A panel is drawn from the genes that a dataset measured: random genes, or a panel of an assay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vcpipe.config.tokens import Panels
from vcpipe.data.cell_keys import fraction, stream
from vcpipe.data.draws import Draw
from vcpipe.data.panel_files import Panel
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.asked_genes import mark_some
from vcpipe.errors import InputError

# `purpose` of cell_keys.stream.
PANEL_CHOICE, FIRST_PANEL, SECOND_PANEL, DROPPED_GENES = range(211, 215)
# Places of PANEL_CHOICE.
OVERLAP, KIND, FILE, DROP_RATE, FIRST_SIZE, SECOND_SIZE = range(6)


@dataclass(frozen=True)
class PanelSource:
    """What the panels of one dataset are drawn from."""

    genes: np.ndarray  # int32: what the dataset measured, ascending
    panels: tuple[Panel, ...]  # of files, measured genes only; none: random panels
    size_min: int
    size_max: int
    note: str  # why panels are random against the settings, for the report; else empty


@dataclass(frozen=True)
class PanelPair:
    first: np.ndarray  # int32: gene ids, ascending
    second: np.ndarray
    name: str  # of the file behind the first, or "random"
    may_overlap: bool


def panel_source(
    dataset: str, measured: np.ndarray, panels: Sequence[Panel], config: Panels
) -> PanelSource:
    """Restrict panels to what a dataset measured, and refuse sizes that it cannot give."""
    genes = np.unique(measured).astype(np.int32)
    size_min, size_max = (
        int(np.ceil(size * len(genes))) if size < 1 else int(size)
        for size in (config.panel_size_min, config.panel_size_max)
    )
    if size_min > size_max:
        raise InputError(
            f"dataset {dataset} measured {len(genes)} genes, so that panel_size_min "
            f"{config.panel_size_min} ({size_min}) is above panel_size_max {config.panel_size_max} "
            f"({size_max}); give both as shares, or both as numbers."
        )
    needed = size_min if config.panel_overlap == 1 else 2 * size_min
    if len(genes) < needed:
        raise InputError(
            f"dataset {dataset} measured {len(genes)} genes, but two panels of panel_size_min "
            f"{size_min} need {needed}; lower panel_size_min, or leave the dataset out."
        )
    if config.panel_selection == "random":
        return PanelSource(genes, (), size_min, size_max, "")
    if len(genes) < config.panel_min_genes:
        note = (
            f"panels of {dataset} are random: it measured {len(genes)} genes, fewer than "
            f"panel_min_genes {config.panel_min_genes}"
        )
        return PanelSource(genes, (), size_min, size_max, note)
    if not panels:
        raise InputError(
            f"panel_selection is {config.panel_selection}, but there is no panel for {dataset}; "
            "give some for its species, or set panel_selection: random."
        )
    known = [np.intersect1d(panel.genes, genes).astype(np.int32) for panel in panels]
    for panel, kept in zip(panels, known, strict=True):
        if not len(kept):
            raise InputError(
                f"dataset {dataset} measured none of the {len(panel.genes)} genes of panel "
                f"{panel.name}; remove the panel, or leave the dataset out."
            )
    restricted = (
        Panel(panel.name, kept, panel.num_listed) for panel, kept in zip(panels, known, strict=True)
    )
    return PanelSource(genes, tuple(restricted), size_min, size_max, "")


def draw_panels(source: PanelSource, config: Panels, draw: Draw, key: int) -> PanelPair:
    """Draw a pair; `key` names who shares it, and everyone who gives the same draws the same."""
    choice = _stream(draw, PANEL_CHOICE, key)
    may_overlap = fraction(choice, OVERLAP) < config.panel_overlap
    from_file = config.panel_selection == "preselected" or (
        config.panel_selection == "mixed"
        and fraction(choice, KIND) >= config.panel_selection_mixed_prob
    )
    # What the first panel leaves for the second.
    room = len(source.genes) - (0 if may_overlap else source.size_min)
    if from_file and source.panels:
        panel = source.panels[int(fraction(choice, FILE) * len(source.panels))]
        rate = fraction(choice, DROP_RATE) * config.panel_max_drop_rate
        name, genes = panel.name, panel.genes
        state = _stream(draw, DROPPED_GENES, key)
        first = some_of(genes, min(len(genes) - int(rate * len(genes)), room), state)
    else:
        size = log_uniform(
            source.size_min, min(source.size_max, room), fraction(choice, FIRST_SIZE)
        )
        name, state = "random", _stream(draw, FIRST_PANEL, key)
        first = some_of(source.genes, size, state)
    others = source.genes if may_overlap else without(source.genes, first)
    largest = min(source.size_max, len(others))
    size = log_uniform(source.size_min, largest, fraction(choice, SECOND_SIZE))
    second = some_of(others, size, _stream(draw, SECOND_PANEL, key))
    return PanelPair(first, second, name, bool(may_overlap))


def draw_pairs(
    sources: Sequence[PanelSource],
    datasets: np.ndarray,
    keys: np.ndarray,
    config: Panels,
    draw: Draw,
    batch: int,
) -> tuple[list[PanelPair], np.ndarray]:
    """The pairs that some cells need, and which of them each cell has.

    `datasets` numbers the sources. With one pair per batch every dataset in it has its own; `batch`
    is the number of the global batch, the same on every process.
    """
    if config.per == "cell":
        pairs = [
            draw_panels(sources[dataset], config, draw, key)
            for dataset, key in zip(datasets, keys, strict=True)
        ]
        return pairs, np.arange(len(keys))
    present, pair_of = np.unique(datasets, return_inverse=True)
    pairs = [
        draw_panels(sources[dataset], config, draw, batch * len(sources) + int(dataset))
        for dataset in present
    ]
    return pairs, pair_of


def log_uniform(least: int, most: int, drawn: float) -> int:
    """A whole number whose logarithm is uniform; `drawn` is uniform in [0, 1).

    >>> [log_uniform(10, 1000, drawn) for drawn in (0.0, 0.5, 0.999)]
    [10, 100, 995]
    """
    return min(max(int(least * (most / least) ** drawn), least), most)


@compiled
def some_of(genes, wanted, state) -> np.ndarray:
    """Draw `wanted` of the genes; they stay in their order."""
    marks = np.zeros(genes.max() + 1, np.uint8)
    rest = mark_some(marks, genes, len(genes), wanted, state)
    # One place more: a gene that is not drawn is written over by the next.
    drawn = np.empty(wanted + 1, genes.dtype)
    place = np.uint64(0)
    for gene in genes:
        drawn[place] = gene
        place += np.uint64(marks[np.uint64(gene)] != rest)
    return drawn[:wanted]


@compiled
def without(genes, others) -> np.ndarray:
    """The genes that are not among the others; both ascend, and all others are genes."""
    rest = np.empty(len(genes) - len(others), genes.dtype)
    place = other = 0
    for gene in genes:
        if other < len(others) and others[other] == gene:
            other += 1
        else:
            rest[place] = gene
            place += 1
    return rest


def _stream(draw: Draw, purpose: int, key: int) -> np.uint64:
    return np.uint64(stream(draw.seed, draw.epoch, purpose, np.uint64(key)))
