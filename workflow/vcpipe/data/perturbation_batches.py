"""Pairs of a control cell and a perturbed cell, with the perturbed genes flagged."""

# B cells, K genes that the model knows, T sampled genes, R rows of the screen, G its genes,
# P most genes that are perturbed at once

from collections import Counter
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
import pandas as pd

from vcpipe.config.finetune import Perturbation
from vcpipe.data.grouped_values import Groups, pick_groups
from vcpipe.data.loading.position_reader import PositionBuffer, PositionReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.partners import Partners
from vcpipe.data.screen import CONTROL, Screen, perturbed_genes
from vcpipe.data.sparse_rows import pick_columns
from vcpipe.data.vocabulary import PAD, Vocabulary
from vcpipe.errors import InputError, listed


@dataclass(frozen=True)
class KnownGenes:
    """The screen's genes that are shown to the model: those with a token, or all of them."""

    columns: np.ndarray  # in the screen
    token_ids: np.ndarray
    position: dict[str, int]  # symbol -> place among the known genes

    def flags(self, condition: str) -> bool:
        """Whether every perturbed gene can be flagged; half a combination would be another one."""
        return all(gene in self.position for gene in perturbed_genes(condition))

    def targets(self, condition: str) -> list[int]:
        """Places of a condition's perturbed genes, or none where one of them is unknown."""
        if not self.flags(condition):
            return []
        return [self.position[gene] for gene in perturbed_genes(condition)]


def known_genes(
    screen: Screen,
    vocabulary: Vocabulary,
    renamed: dict[str, str] | None = None,
    unknown: str = "left_out",
) -> KnownGenes:
    """`renamed` gives the token of each gene that the vocabulary knows by another name.

    With unknown "pad" those without a token are shown under that of <pad>, and can be flagged.
    """
    ids = vocabulary.encode((renamed or {}).get(gene, gene) for gene in screen.genes)
    if unknown == "pad":
        ids = np.where(ids < 0, vocabulary.ids[PAD], ids)
    columns = np.flatnonzero(ids >= 0)
    names = screen.genes[columns]
    return KnownGenes(columns, ids[columns], {name: i for i, name in enumerate(names)})


def check_targets(screen: Screen, known: KnownGenes, conditions: list[str]) -> None:
    """Refuse perturbations none of which can be flagged: nothing of them would be learned."""
    perturbed = [condition for condition in conditions if condition != CONTROL]
    if perturbed and not any(known.flags(condition) for condition in perturbed):
        raise InputError(
            f"No perturbed cell is left: the model knows none of the perturbed genes of "
            f"{listed(perturbed)}. Check the gene names of {screen.path}, or set "
            "perturbation.gene_aliases: true."
        )


class Values(Protocol):
    """Where a batch's values come from."""

    def of(self, rows: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays control and perturbed [B, T] of rows [2, B] of the screen, or what finds them."""
        ...


class ValuesOnDisk:
    """Values that are read for each batch.

    A screen may be larger than memory, and the system keeps what is asked for again.
    """

    def __init__(self, screen: Screen, known: KnownGenes):
        self.screen, self.known = screen, known

    def of(self, rows: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
        place_G = np.full(len(self.screen.genes), -1)
        place_G[self.known.columns[chosen]] = np.arange(len(chosen))
        values_RT = np.zeros((rows.size, len(chosen)), dtype=np.float32)
        sparse = self.screen.values(rows.ravel())
        pick_columns(sparse.indptr, sparse.indices, sparse.data, place_G, values_RT)
        return _pairs(values_RT)


class ValuesInMemory:
    """Values of the cells of `rows`, all held; `groups` are in the same order."""

    def __init__(self, groups: Groups, rows: np.ndarray, known: KnownGenes):
        self.groups, self.rows, self.num_genes = groups, rows, len(known.columns)

    def of(self, rows: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
        # All genes are looked up in it: a small one stays in the processor's nearest cache.
        kind = np.int16 if len(chosen) < 2**15 else np.int32
        place_K = np.full(self.num_genes, -1, dtype=kind)
        place_K[chosen] = np.arange(len(chosen))
        values_RT = np.zeros((rows.size, len(chosen)), dtype=np.float32)
        pick_groups(self.groups, np.searchsorted(self.rows, rows.ravel()), place_K, values_RT)
        return _pairs(values_RT)


class ValuesElsewhere:
    """Values that another device holds of the cells of `rows`: it is told where they are."""

    def __init__(self, rows: np.ndarray):
        self.rows = rows

    def of(self, rows: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
        return {"held": np.searchsorted(self.rows, rows), "chosen": chosen}


def _pairs(values_RT: np.ndarray) -> dict[str, np.ndarray]:
    control_BT, perturbed_BT = np.split(values_RT, 2)
    return {"control": control_BT, "perturbed": perturbed_BT}


class PerturbationBatches:
    """Batches over some cells of a screen, each beside a control.

    `control_row` says with which control a cell is paired, `pool` from which rows partners are
    drawn where they are drawn anew.
    """

    def __init__(
        self,
        screen: Screen,
        known: KnownGenes,
        cells: np.ndarray,
        control_row: np.ndarray,
        config: Perturbation,
        pool: np.ndarray,
        weights: pd.DataFrame | None = None,
    ):
        """`weights` say what a gene's error counts by condition; of others all count the same."""
        self.known, self.config = known, config
        if not config.include_controls:
            cells = cells[screen.condition[cells] != CONTROL]
        conditions, id_C = np.unique(screen.condition[cells], return_inverse=True)
        check_targets(screen, known, conditions.tolist())
        keep = np.array([known.flags(its) for its in conditions], dtype=bool)[id_C]
        self.unusable = sorted(set(screen.condition[cells][~keep]))
        self.cells = cells[keep]
        self.condition, self.condition_id = screen.condition[self.cells], id_C[keep]
        self.targets = _table([known.targets(condition) for condition in conditions])
        paired_with = control_row[self.cells]
        assert (paired_with >= 0).all()
        self.partners = None
        self.paired_with = paired_with
        if config.control_partners == "redrawn":
            self.partners = Partners(screen, self.cells, paired_with, pool, config.match_batch)
        self.values: Values = ValuesOnDisk(screen, known)
        labels = {
            name: getattr(screen, name)[self.cells] for name in ("condition", "cell_type", "batch")
        }
        self.weights = None
        if weights is not None:
            # The last row is of conditions without weights.
            known_PG = weights.to_numpy(dtype=np.float32)[:, known.columns]
            self.weights = np.pad(known_PG, ((0, 1), (0, 0)), constant_values=1)
            self.weights_row = weights.index.get_indexer(self.condition)
        self.reader = PositionReader(len(self.cells), labels)
        self.seen: dict[int, Counter] = {}  # by epoch
        self.counting = Lock()  # several threads make batches

    def batch(
        self,
        buffer: PositionBuffer,
        places: np.ndarray,
        draw: BatchDraw,
        chosen: np.ndarray | None = None,
    ) -> dict:
        """Arrays genes [T] and control, perturbed, flags [B, T]; all cells share their genes.

        `chosen` are these among the known genes, where they are drawn elsewhere.
        """
        positions = buffer.positions[places]
        targets_BP = self.targets[self.condition_id[positions]]
        if chosen is None:
            chosen = self._genes(targets_BP, draw.generator())
        # Place -1 stands for no gene, which has no column.
        column_K = np.full(len(self.known.columns) + 1, -1)
        column_K[chosen] = np.arange(len(chosen))
        column_BP = column_K[targets_BP]
        flags_BT = np.zeros((len(positions), len(chosen)), dtype=np.int64)
        cells, which = np.nonzero(column_BP >= 0)
        flags_BT[cells, column_BP[cells, which]] = 1
        self._count(draw, targets_BP >= 0, column_BP >= 0)
        control = self.paired_with[positions]
        if self.partners is not None:
            control = self.partners.drawn(positions, draw)
        rows = np.stack([control, self.cells[positions]])
        made = {
            "genes": self.known.token_ids[chosen].astype(np.int64),
            "flags": flags_BT,
            **self.values.of(rows, chosen),
        }
        if self.weights is not None:
            made["weights"] = self.weights[np.ix_(self.weights_row[positions], chosen)]
        return made

    def rows(self) -> np.ndarray:
        """All rows of the screen that batches may ask values of."""
        controls = self.paired_with if self.partners is None else self.partners.rows()
        return np.union1d(self.cells, controls)

    def notes(self, batch_size: int) -> list[str]:
        """What is to be known before training."""
        found = self.partners.notes() if self.partners is not None else []
        if self.unusable:
            found.append(f"left out, the model does not know their genes: {listed(self.unusable)}")
        number = Counter(self.condition.tolist())
        few = sorted(one for one, its in number.items() if its < batch_size and one != CONTROL)
        if few:
            found.append(
                f"{len(few)} perturbations have fewer cells than a batch ({batch_size}): "
                f"{listed(few)}. Batches mix perturbations, so all of their cells are learned from"
            )
        return found

    def notes_of_epoch(self, epoch: int) -> list[str]:
        """How often this process's batches showed what was perturbed, as far as it made them."""
        with self.counting:
            seen = self.seen.pop(epoch, Counter())
        if not seen["examples"]:
            return []
        share = seen["flagged"] / seen["examples"]
        return [f"the perturbed genes were among the sampled ones in {share:.1%} of the examples"]

    def _count(self, draw: BatchDraw, wanted_BP: np.ndarray, seen_BP: np.ndarray) -> None:
        if draw.purpose != BatchDraw.purpose:  # of held-out cells
            return
        perturbed_B = wanted_BP.any(axis=1)
        flagged_B = perturbed_B & (seen_BP == wanted_BP).all(axis=1)
        with self.counting:
            its = self.seen.setdefault(draw.epoch, Counter())
            its.update(examples=int(perturbed_B.sum()), flagged=int(flagged_B.sum()))

    def _genes(self, targets_BP: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        num_genes = len(self.known.columns)
        if num_genes <= self.config.max_seq_len:
            return np.arange(num_genes)
        order = generator.permutation(num_genes)
        if self.config.always_sample_targets:
            first = np.unique(targets_BP[targets_BP >= 0])
            is_target = np.zeros(num_genes, dtype=bool)
            is_target[first] = True
            order = np.concatenate([first, order[~is_target[order]]]).astype(np.int64)
        return np.sort(order[: self.config.max_seq_len])


def _table(targets: list[list[int]]) -> np.ndarray:
    """Places of perturbed genes, conditions × the most genes that one has; -1: none."""
    table = np.full((len(targets), max([1, *map(len, targets)])), -1)
    for row, places in zip(table, targets, strict=True):
        row[: len(places)] = places
    return table
