"""All names that a corpus is learned with, numbered once: genes, peaks, chromosomes, labels."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vcpipe.config.vocabulary import SpecialTokens
from vcpipe.data.chromosomes import chromosome
from vcpipe.data.peaks import parse_peaks
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError, listed
from vcpipe.files import digest

# The chromosome of genes that have none, where special_tokens.others names it.
UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Vocabularies:
    """Genes have ids of their own in every species; special tokens have the same in all."""

    special_tokens: SpecialTokens
    genes: dict[str, Vocabulary]  # by species
    gene_ids: dict[str, dict[str, str]]  # by species: Ensembl ids of genes, where they are known
    gene_chromosome: dict[str, dict[str, str]]  # by species: chromosomes of genes, where known
    peaks: Vocabulary | None
    chromosomes: Vocabulary
    batches: Vocabulary  # labels have no special tokens
    cell_types: Vocabulary

    @cached_property
    def digest(self) -> str:
        """Hash all names, numbers and special values; no order matters."""
        return digest(
            {
                "special_tokens": self.special_tokens.model_dump(mode="json"),
                "genes": {species: found.ids for species, found in self.genes.items()},
                "gene_ids": self.gene_ids,
                "gene_chromosome": self.gene_chromosome,
                "peaks": self.peaks and self.peaks.ids,
                "chromosomes": self.chromosomes.ids,
                "batches": self.batches.ids,
                "cell_types": self.cell_types.ids,
            }
        )

    def of(self, modality: str, species: str) -> Vocabulary:
        """The vocabulary of a modality's features; of genes, that of their species."""
        if modality == "rna":
            if species not in self.genes:
                raise InputError(
                    f"there is no vocabulary for the genes of {species!r}; there is one for "
                    f"{listed(sorted(self.genes)) or 'none'}. Correct the species, name orthologs, "
                    "or add it to vocabulary.genes."
                )
            return self.genes[species]
        if self.peaks is None:
            raise InputError("the vocabulary has no peaks; expected atac_vocab.json, or peaks.")
        return self.peaks

    def features(self, vocabulary: Vocabulary) -> list[str]:
        """Names without the special tokens, by id."""
        special = set(self.special_tokens.names())
        return [name for name in vocabulary.names() if name not in special]

    def chromosome_ids(self, modality: str, species: str) -> np.ndarray:
        """The chromosome of every token (int32); special tokens are their own, -1 is unknown."""
        vocabulary = self.of(modality, species)
        places = {name: name for name in self.special_tokens.names()}
        if modality == "rna":
            places |= self.gene_chromosome.get(species, {})
        else:
            names = self.features(vocabulary)
            peaks = parse_peaks(np.array(names, dtype=str))
            spelled = [chromosome(name) for name in peaks.chromosomes]
            places |= zip(names, (spelled[number] for number in peaks.chromosome), strict=True)
        ids = {chromosome(name): number for name, number in self.chromosomes.ids.items()}
        found = [ids.get(places.get(name), -1) for name in vocabulary.names()]
        return np.array(found, dtype=np.int32)


def label_ids(labels: Iterable, vocabulary: Vocabulary, where: str) -> np.ndarray:
    """Ids of labels (int32): -1 where a cell has none; an unknown label is refused, never id 0."""
    names = [None if label is None or label != label else str(label) for label in labels]
    unknown = sorted({name for name in names if name is not None} - set(vocabulary.ids))
    if unknown:
        raise InputError(
            f"{where} has labels that the vocabulary lacks: {listed(unknown)}; it knows "
            f"{listed(vocabulary.ids)}. Correct the label, or build the vocabulary with it."
        )
    return vocabulary.encode(names)
