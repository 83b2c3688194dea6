"""Cells of the store -> two padded views of each on two gene panels, for contrastive learning."""

# B cells, T tokens, N tokens of all cells of a view

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vcpipe.config.fitting import Fit
from vcpipe.config.loading import WEIGHTED
from vcpipe.config.objectives.contrastive import Contrastive
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.tokens import Panels
from vcpipe.data.cell_keys import mixed
from vcpipe.data.draws import Draw
from vcpipe.data.loading.reader import Buffer
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.normalised_values import normalised_values
from vcpipe.data.order import BatchDraw
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.masking import choose, num_hidden
from vcpipe.data.tokens.packing import Empty, Specials, Tokens, fill, padded
from vcpipe.data.tokens.panel_views import is_empty, two_views
from vcpipe.data.tokens.panels import PanelPair, PanelSource, draw_pairs

NO_GENES = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class ViewedCells:
    """What views are made with, the same for all cells of a store."""

    special: Specials  # the same in all species
    fit: Fit  # how values are normalised
    num_genes: int  # of the largest vocabulary
    datasets: Sequence[str]
    panels: Sequence[PanelSource]  # by dataset, as the next
    species: np.ndarray  # int64: numbers

    def dataset_of(self, reader: StoreReader, positions: np.ndarray) -> np.ndarray:
        """The number of each cell's dataset."""
        places = {name: number for number, name in enumerate(self.datasets)}
        names = reader.store.labels(reader.store_positions(positions), ["dataset"])["dataset"]
        return np.array([places[name] for name in names.to_pylist()], dtype=np.int64)


class ViewBatches:
    """Both views of each cell; the panels of a step are the same for all processes."""

    def __init__(
        self, viewed: ViewedCells, config: Pretrain, reader: StoreReader, empty: Empty = np.empty
    ):
        self.reader, self.viewed, self.empty = reader, viewed, empty
        self.config: Contrastive = config.contrastive
        self.draws_repeat = config.loading.strategy in WEIGHTED

    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """Of each view genes and real [B, T], and values or hidden where they are asked for.

        `usable` [B] is False where a view has no gene, `species` [B] numbers the species. Besides
        the masks stand the places where they are True: said here, no device must be asked.
        """
        viewed, config, rows = self.viewed, self.config, buffer.rows(places)
        if self.draws_repeat:
            # A cell that is drawn again gets other ties and masks.
            other = draw.generator().integers(2**63, size=len(rows), dtype=np.uint64)
            rows = replace(rows, keys=rows.keys ^ other)
        dataset_B = viewed.dataset_of(self.reader, buffer.positions[places])
        drawn = Draw(draw.seed, draw.epoch)
        pairs, pair_of = draw_pairs(
            viewed.panels, dataset_B, rows.keys, config.panels, drawn, draw.step
        )
        values_N = np.zeros(len(rows.ids), dtype=np.float32)
        if config.input_encoding == "value_encoding" or config.masking_rate:
            values_N = normalised_values(rows, viewed.fit)
        views = two_views(
            *(rows, values_N, pairs, pair_of),
            *(viewed.num_genes, config.panels, viewed.special, drawn),
        )
        usable_B = ~(is_empty(views[0]) | is_empty(views[1]))
        made = {
            "species": viewed.species[dataset_B],
            "usable": usable_B,
            "usable_places": np.flatnonzero(usable_B),
        }
        for name, view in zip(("first", "second"), views, strict=True):
            its = self._hidden(view, name, drawn) if config.masking_rate else {}
            its |= padded_view(view, viewed.special, self.empty)
            if config.input_encoding == "rank_encoding":
                del its["values"]
            made |= {f"{name}_{what}": array for what, array in its.items()}
        return made

    def _hidden(self, view: Tokens, name: str, draw: Draw) -> dict[str, np.ndarray]:
        """Hide values of a view: which, and what they were."""
        # The views of a cell hide genes independently of each other.
        keys = view.keys if name == "first" else mixed_keys(view.keys)
        hidden_N = np.empty(len(view.genes), dtype=bool)
        _choose_of_each(
            view.starts, keys, self.config.masking_rate, *(draw.seed, draw.epoch), hidden_N
        )
        targets_M = self.empty((int(hidden_N.sum()),), dtype=np.float32)
        targets_M[:] = view.values[hidden_N]
        view.values[hidden_N] = self.viewed.special.mask_value
        hidden_BT = self.empty((len(view), int(np.diff(view.starts).max(initial=0))), dtype=bool)
        fill(view.starts, hidden_N, False, hidden_BT)
        return {
            "hidden": hidden_BT,
            "hidden_places": np.flatnonzero(hidden_BT),
            "targets": targets_M,
        }


class WholeCellBatches:
    """One view of each cell: all of its genes, the most expressed first, as embedding asks."""

    def __init__(
        self, viewed: ViewedCells, config: Pretrain, reader: StoreReader, empty: Empty = np.empty
    ):
        self.reader, self.viewed, self.empty = reader, viewed, empty
        self.panels = config.contrastive.panels

    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """genes, values and real [B, T], species [B]."""
        viewed, rows = self.viewed, buffer.rows(places)
        drawn = Draw(draw.seed, draw.epoch)
        view = whole_view(rows, viewed.fit, viewed.num_genes, self.panels, viewed.special, drawn)
        dataset_B = viewed.dataset_of(self.reader, buffer.positions[places])
        made = padded_view(view, viewed.special, self.empty)
        return made | {"species": viewed.species[dataset_B]}


def padded_view(view: Tokens, special: Specials, empty: Empty = np.empty) -> dict[str, np.ndarray]:
    """genes, values and real [B, T]; where some are not real, the places of those that are.

    `places` are of B × T, cell by cell from `starts` on.
    """
    made = padded(view, special.pad_id, special.pad_value, empty)
    if made["real"].all():
        return made
    return made | {
        "places": np.flatnonzero(made["real"]),
        "starts": view.starts.astype(np.int32),
    }


def whole_view(
    rows: Rows, fit: Fit, num_genes: int, config: Panels, special: Specials, draw: Draw
) -> Tokens:
    """All genes of cells, none left out at random."""
    everything = PanelPair(np.arange(num_genes, dtype=np.int32), NO_GENES, "all", False)
    config = config.model_copy(update={"feature_max_drop_rate": 0.0})
    view, _ = two_views(
        *(rows, normalised_values(rows, fit), [everything], np.zeros(len(rows), dtype=np.int64)),
        *(num_genes, config, special, draw),
    )
    return view


@compiled
def mixed_keys(keys) -> np.ndarray:
    """Other names of the same cells."""
    made = np.empty_like(keys)
    for cell in range(len(keys)):
        made[cell] = mixed(keys[cell])
    return made


@compiled
def _choose_of_each(starts, keys, rate, seed, epoch, hidden_N) -> None:
    ratios = np.array([rate])
    for cell in range(len(keys)):
        its = hidden_N[starts[cell] : starts[cell + 1]]
        wanted = num_hidden(len(its) - 1, keys[cell], seed, epoch, ratios)
        choose(1, wanted, keys[cell], seed, epoch, its)
