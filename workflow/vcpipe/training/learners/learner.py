"""The parts of a pretraining run that differ between objectives."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.corpus_names import Names
from vcpipe.data.loading.reader import Batches
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.preprocessing_record import PreprocessingRecord
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError, listed
from vcpipe.training.forward import Loss


@dataclass(frozen=True)
class PreparedCells:
    """A store, and the names and numbers that it was written with."""

    store: CellStore
    names: Names
    record: PreprocessingRecord

    def species(self, objective: str) -> list[str]:
        """Those that have genes, sorted."""
        store = self.store
        if "rna" not in store.modalities:
            raise InputError(
                f"{store.path} holds {listed(store.modalities)} only; {objective} learns from "
                "genes. Give its atlases rna."
            )
        return sorted(store.manifest["modalities"]["rna"]["vocabulary_digests"])

    def only_species(self, objective: str) -> str:
        """Of objectives that learn one table of genes."""
        species = self.species(objective)
        if len(species) > 1:
            raise InputError(
                f"{self.store.path} has genes of {listed(species)}, each with ids of its own; "
                f"{objective} learns one table of genes. Name orthologs, or make a corpus of each."
            )
        return species[0]


@dataclass(frozen=True)
class Learner:
    model: nn.Module
    loss: Loss
    batches: Callable[[StoreReader], Batches]
    vocabulary: Vocabulary  # of the tokens that go to vocab.json
    # For args.json, in the words of scGPT where it has any.
    args: dict = field(default_factory=dict)
    modality: str = "rna"  # whose positions and blocks are read
    # Digests of what else shapes the run.
    data: dict = field(default_factory=dict)
    # Whether the loss is of all processes' cells together: it is then called with `gather`.
    compares_cells: bool = False
    notes: list[str] = field(default_factory=list)  # for people
