"""Pairs of a control cell and a perturbed cell, with the perturbed genes flagged."""

# B cells, G genes that the model knows, T sampled genes

from dataclasses import dataclass

import numpy as np

from vcpipe.config.finetune import Perturbation
from vcpipe.data.loading.position_reader import PositionBuffer, PositionReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.screen import Screen, perturbed_genes
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


class PerturbationBatches:
    """Batches over some cells of a screen, each beside the control that it is paired with."""

    def __init__(
        self,
        screen: Screen,
        known: KnownGenes,
        cells: np.ndarray,
        control_row: np.ndarray,
        config: Perturbation,
    ):
        self.known, self.config = known, config
        usable = {condition: known.flags(condition) for condition in np.unique(screen.condition)}
        keep = np.array([usable[condition] for condition in screen.condition[cells]], dtype=bool)
        self.unusable = sorted(set(screen.condition[cells][~keep]))
        self.cells = cells[keep]
        if not len(self.cells):
            raise InputError(
                f"No cell is left to learn from: the model knows none of the perturbed genes of "
                f"{listed(self.unusable)}. Check the gene names of {screen.path}."
            )
        self.condition = screen.condition[self.cells]
        self.control = control_row[self.cells]
        assert (self.control >= 0).all()
        self.screen = screen
        labels = {
            name: getattr(screen, name)[self.cells] for name in ("condition", "cell_type", "batch")
        }
        self.reader = PositionReader(len(self.cells), labels)

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
        targets = [self.known.targets(condition) for condition in self.condition[positions]]
        if chosen is None:
            chosen = self._genes(targets, draw.generator())
        place = {column: i for i, column in enumerate(chosen)}
        flags_BT = np.zeros((len(positions), len(chosen)), dtype=np.int64)
        for row, columns in enumerate(targets):
            flags_BT[row, [place[column] for column in columns if column in place]] = 1
        return {
            "genes": self.known.token_ids[chosen].astype(np.int64),
            "control": self._values(self.control[positions], chosen),
            "perturbed": self._values(self.cells[positions], chosen),
            "flags": flags_BT,
        }

    def _values(self, rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Values of the chosen genes, cells × genes, read for each batch.

        A screen may be larger than memory, and the system keeps what is asked for again.
        """
        place_G = np.full(len(self.screen.genes), -1)
        place_G[self.known.columns[chosen]] = np.arange(len(chosen))
        values_BT = np.zeros((len(rows), len(chosen)), dtype=np.float32)
        sparse = self.screen.values(rows)
        pick_columns(sparse.indptr, sparse.indices, sparse.data, place_G, values_BT)
        return values_BT

    def _genes(self, targets: list[list[int]], generator: np.random.Generator) -> np.ndarray:
        num_genes = len(self.known.columns)
        if num_genes <= self.config.max_seq_len:
            return np.arange(num_genes)
        order = generator.permutation(num_genes)
        if self.config.always_sample_targets:
            first = np.unique([column for columns in targets for column in columns])
            order = np.concatenate([first, order[~np.isin(order, first)]]).astype(np.int64)
        return np.sort(order[: self.config.max_seq_len])
