"""Cells of the store -> padded arrays of open peaks, and genes whose values are asked for."""

# B cells, T tokens of the longest cell, N asked values of all cells

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from vcpipe.config.loading import WEIGHTED
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.tokens import Tokenizer
from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.draws import Draw
from vcpipe.data.loading.paired_reader import PairedReader, both
from vcpipe.data.loading.reader import Buffer
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.tokens.asked_genes import genes_to_ask
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.packing import Empty, Specials
from vcpipe.data.tokens.paired_peaks import Chromosomes, padded_peaks, paired_batch
from vcpipe.data.tokens.tokenize import bins
from vcpipe.data.tokens.truncation import Measured, measured_by
from vcpipe.data.vocabularies import Vocabularies, label_ids
from vcpipe.data.vocabulary import Vocabulary

# Columns of labels, by the name of the array.
LABELS = ("batch", "cell_type")


@dataclass(frozen=True)
class Asked:
    """Genes that cells may be asked for."""

    of_dataset: Mapping[str, np.ndarray]  # ids that are drawn from, or all asked for
    genes: np.ndarray  # int32: ids of any of them, ascending


def asked_genes(store: CellStore, config: Tokenizer, hvgs: np.ndarray | None) -> Asked:
    """What each dataset measured of what rna_sampling asks for; balanced: what cells show, too."""
    measured = store.measured["rna"]
    its = dict(zip(measured, genes_to_ask(measured, config, hvgs), strict=True))
    parts = list(its.values())
    if config.rna_sampling == "balanced":
        parts += store.features_present["rna"].values()
    return Asked(its, np.unique(np.concatenate(parts)).astype(np.int32))


def chromosomes_of(names: Vocabularies, species: str) -> Chromosomes:
    """Chromosomes of peaks and genes; of those without one it is the number behind the last."""
    unknown = len(names.chromosomes)
    its = (names.chromosome_ids(modality, species) for modality in ("atac", "rna"))
    return Chromosomes(*(np.where(ids < 0, unknown, ids).astype(np.int32) for ids in its))


class PairedBatches:
    """Batches of <cls> and open peaks; which genes are asked for is named by a cell's key."""

    def __init__(
        self,
        special: Specials,
        fitted: Fitted,
        names: Vocabularies,
        chromosomes: Chromosomes,
        asked: Asked,
        config: Pretrain,
        reader: StoreReader,
        empty: Empty = np.empty,
    ):
        self.reader, self.special, self.fitted, self.empty = (
            PairedReader(reader),
            special,
            fitted,
            empty,
        )
        self.chromosomes, self.asked, self.config = chromosomes, asked, config.tokenizer
        self.vocabularies: dict[str, Vocabulary] = {
            "batch": names.batches,
            "cell_type": names.cell_types,
        }
        self.draws_repeat = config.loading.strategy in WEIGHTED
        self.measured = measured_by(list(asked.of_dataset.values()), np.zeros(0))
        self.number_of = {name: number for number, name in enumerate(asked.of_dataset)}
        self.place_of = np.full(len(chromosomes.of_genes), -1, dtype=np.int32)
        self.place_of[asked.genes] = np.arange(len(asked.genes))

    def batch(self, buffer: Buffer, places: np.ndarray, draw: BatchDraw) -> dict[str, np.ndarray]:
        """peaks, peak_chromosomes and real [B, T]; of asked values cell, gene, targets [N].

        Besides them where the real tokens lie (see padded_peaks), and the labels. A gene is its
        place among those that may be asked for. batch and cell_type are -1 where a cell has no
        label.
        """
        rna, atac = (its.rows(places) for its in both(buffer))
        if self.draws_repeat:
            # A cell that is drawn again is asked for other genes.
            keys = rna.keys ^ draw.generator().integers(2**63, size=len(rna), dtype=np.uint64)
            rna, atac = replace(rna, keys=keys), replace(atac, keys=keys)
        of_cell = Draw(draw.seed, draw.epoch)
        measured, labels = self._labels(self.reader.store_positions(buffer.positions[places]))
        values = bins(rna, self.config, self.fitted, of_cell)
        made = paired_batch(
            *(rna, atac, values, measured, self.chromosomes, self.special.cls_id, self.config),
            *(labels, of_cell),
        )
        pad_id = self.special.pad_id
        arrays = padded_peaks(made, pad_id, int(self.chromosomes.of_peaks[pad_id]))
        gene = self.place_of[made.genes]
        assert gene.min(initial=0) >= 0, "a gene is asked for that no dataset measured"
        arrays |= {
            "cell": np.repeat(np.arange(len(made)), np.diff(made.gene_starts)),
            "gene": gene,
            "targets": made.targets.astype(np.int32),
            **labels,
        }
        return {name: _laid(array, self.empty) for name, array in arrays.items()}

    def _labels(self, cells: np.ndarray) -> tuple[Measured, dict[str, np.ndarray]]:
        """The genes that may be asked of each cell, and the numbers of its labels."""
        store = self.reader.store
        known = [name for name in LABELS if name in store.manifest["labels"]]
        table = store.labels(cells, ["dataset", *known])
        datasets = [self.number_of[name] for name in table["dataset"].to_pylist()]
        labels = {name: np.full(len(cells), -1) for name in LABELS}
        for name in known:
            found = label_ids(table[name].to_pylist(), self.vocabularies[name], str(store.path))
            labels[name] = found.astype(np.int64)
        return self.measured._replace(dataset_B=np.array(datasets, dtype=np.int64)), labels


def _laid(array: np.ndarray, empty: Empty) -> np.ndarray:
    """The same numbers in memory of the asked kind."""
    if empty is np.empty:
        return array
    made = empty(array.shape, dtype=array.dtype)
    made[...] = array
    return made
