"""The vocabularies of a corpus: read from the user's files, or made of the names in its sources.

Nothing here depends on the order of sources, of their features or of their cells.
"""

from pathlib import Path

import numpy as np

from vcpipe.config.vocabulary import Vocabulary as VocabularySettings
from vcpipe.data.chromosomes import chromosome, read_gene_chromosomes
from vcpipe.data.feature_ids import aliases_of
from vcpipe.data.gene_names import match_genes
from vcpipe.data.gene_vocabularies import by_species, gene_vocabularies
from vcpipe.data.peaks import Peaks, natural, parse_peaks, unify_peaks
from vcpipe.data.sources.source import CellSource
from vcpipe.data.vocabularies import UNKNOWN, Vocabularies, label_ids
from vcpipe.data.vocabulary import Vocabulary, numbered, read_vocabulary, refuse_other_tokens
from vcpipe.data.vocabulary_files import read_labels
from vcpipe.errors import InputError, listed


def build_vocabularies(sources: list[CellSource], config: VocabularySettings) -> Vocabularies:
    """Every part is the user's file, unchanged, or what the sources name, sorted."""
    genes, gene_ids = gene_vocabularies(sources, config)
    places = _gene_chromosomes(genes, gene_ids, config)
    peaks = _peaks(sources, config)
    return Vocabularies(
        special_tokens=config.special_tokens,
        genes=genes,
        gene_ids=gene_ids,
        gene_chromosome=places,
        peaks=peaks,
        chromosomes=_chromosomes(places, peaks, config),
        batches=_labels(sources, "batch", config.batches),
        cell_types=_labels(sources, "cell_type", config.cell_types),
    )


def _gene_chromosomes(
    genes: dict[str, Vocabulary], gene_ids: dict[str, dict[str, str]], config: VocabularySettings
) -> dict[str, dict[str, str]]:
    """Chromosomes of genes by name, former symbol or Ensembl id; <unk> only if it is a token."""
    files = by_species(config.gene_chromosomes, list(genes), "vocabulary.gene_chromosomes")
    special, found = config.special_tokens.names(), {}
    for species, path in sorted(files.items()):
        if species not in genes:
            raise InputError(
                f"vocabulary.gene_chromosomes names {species!r}, but there are genes of "
                f"{listed(sorted(genes))} only."
            )
        table = read_gene_chromosomes(Path(path))
        names = sorted(set(genes[species].ids) - set(special))
        aliases = aliases_of(species, gene_ids[species]) if config.gene_aliases else None
        ids = [gene_ids[species].get(name, "") for name in names]
        rows = {name: row for row, name in enumerate(table)}
        tokens = match_genes(names, ids, rows, aliases)["token"]
        places = {
            name: table.get(token, UNKNOWN) for name, token in zip(names, tokens, strict=True)
        }
        if set(places.values()) == {UNKNOWN}:
            raise InputError(
                f"{path} has a chromosome for none of the {len(names)} {species} genes "
                f"({listed(names, 3)}); its genes are {listed(table, 3)}."
            )
        keep_unknown = UNKNOWN in special
        found[species] = {k: v for k, v in places.items() if keep_unknown or v != UNKNOWN}
    return found


def _peaks(sources: list[CellSource], config: VocabularySettings) -> Vocabulary | None:
    species = sorted({source.species for source in sources if "atac" in source.features})
    if len(species) > 1:
        raise InputError(
            f"the corpus has peaks of {listed(species)}; chr1:100-200 is another place in each "
            "genome, so expected peaks of one species."
        )
    if config.peaks:
        found = read_vocabulary(Path(config.peaks), config.special_tokens.required())
        refuse_other_tokens(found.ids, config.special_tokens.names(), config.peaks)
        _parsed(found, config)
        return found
    named = {
        source.path: source.features["atac"] for source in sources if "atac" in source.features
    }
    names = [its.names for its in named.values()]
    if not names:
        return None
    unified, _ = unify_peaks(names, config.peak_match, config.join, list(named))
    if not len(unified):
        raise InputError(
            f"no peak is in all {len(names)} files ({', '.join(str(len(n)) for n in names)} "
            "peaks). Are they of the same genome assembly? Or set join: union."
        )
    return numbered(config.special_tokens.names(), [str(name) for name in unified])


def _parsed(peaks: Vocabulary, config: VocabularySettings) -> Peaks:
    special = set(config.special_tokens.names())
    names = np.array([name for name in peaks.names() if name not in special], dtype=str)
    return parse_peaks(names, config.peaks or "the corpus")


def _chromosomes(
    places: dict[str, dict[str, str]], peaks: Vocabulary | None, config: VocabularySettings
) -> Vocabulary:
    special = config.special_tokens.names()
    names = {place for of_species in places.values() for place in of_species.values()}
    if peaks is not None:
        names |= {chromosome(name) for name in _parsed(peaks, config).chromosomes}
    names -= {UNKNOWN} & set(special)
    if config.chromosomes is None:
        return numbered(special, sorted(names, key=natural))
    found = read_vocabulary(Path(config.chromosomes), config.special_tokens.required())
    known = {chromosome(name) for name in found.ids}
    if len(known) < len(found):
        raise InputError(
            f"{config.chromosomes} has a chromosome under two names (1 and chr1); expected one."
        )
    missing = sorted(names - known, key=natural)
    if missing:
        raise InputError(
            f"{config.chromosomes} lacks {listed(missing)}, where genes or peaks of the corpus "
            f"lie; it has {listed(found.ids)}."
        )
    return found


def _labels(sources: list[CellSource], column: str, path: str | None) -> Vocabulary:
    """Labels of all sources by name, or the user's numbers if they cover them."""
    of_sources = [
        (source.path, source.labels[column].dropna().unique())
        for source in sources
        if column in source.labels
    ]
    if path is None:
        names = {str(name) for _, names in of_sources for name in names}
        return numbered([], sorted(names))
    vocabulary = read_labels(Path(path))
    for where, names in of_sources:
        label_ids(names, vocabulary, f"{where}, {column} (numbered by {path}),")
    return vocabulary
