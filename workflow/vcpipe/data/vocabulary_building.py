"""The vocabularies of a corpus: read from the user's files, or made of the names in its sources.

Nothing here depends on the order of sources, of their features or of their cells.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from vcpipe.config.vocabulary import Vocabulary as VocabularySettings
from vcpipe.data.chromosomes import chromosome, read_gene_chromosomes
from vcpipe.data.feature_ids import HUMAN, aliases_of
from vcpipe.data.gene_names import Aliases, ensembl_id, genes_behind, match_genes
from vcpipe.data.gene_panels import read_panel
from vcpipe.data.peaks import Peaks, natural, parse_peaks, unify_peaks
from vcpipe.data.sources.source import CellSource
from vcpipe.data.vocabularies import UNKNOWN, Vocabularies, label_ids
from vcpipe.data.vocabulary import (
    Vocabulary,
    build_vocabulary,
    check_special_tokens,
    numbered,
    read_vocabulary,
    with_special_tokens,
)
from vcpipe.data.vocabulary_files import (
    check_same_special_ids,
    read_gene_vocabulary,
    read_labels,
)
from vcpipe.errors import InputError, listed


def build_vocabularies(sources: list[CellSource], config: VocabularySettings) -> Vocabularies:
    """Every part is the user's file, unchanged, or what the sources name, sorted."""
    genes, gene_ids = _genes(sources, config)
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


def by_species(files: str | dict[str, str] | None, species: Collection[str], key: str):
    """{species: file}; one file for all is right only where there is one species."""
    if isinstance(files, str):
        if len(species) != 1:
            raise InputError(
                f"{key} is one file, but the corpus has genes of {listed(sorted(species))}; "
                "expected {species: file}."
            )
        return {next(iter(species)): files}
    return files or {}


def _genes(sources: list[CellSource], config: VocabularySettings):
    """Vocabularies and Ensembl ids by species."""
    species = sorted({source.species for source in sources if "rna" in source.features})
    if config.genes is None:
        built = {name: _from_sources(name, sources, config) for name in species}
    else:
        everyone = species or sorted({source.species for source in sources})
        files = by_species(config.genes, everyone, "vocabulary.genes")
        missing = [name for name in species if name not in files]
        if missing:
            raise InputError(
                f"vocabulary.genes has no file for {listed(missing)}; it has "
                f"{listed(sorted(files))}. Add one, or name orthologs of these species."
            )
        read = {name: _given(Path(files[name]), config) for name in sorted(files)}
        check_same_special_ids({name: found[0] for name, found in read.items()}, config)
        built = {
            name: (vocabulary, _all_ids(name, vocabulary.ids, ids, sources, config))
            for name, (vocabulary, ids) in read.items()
        }
    return (
        {name: found[0] for name, found in built.items()},
        {name: found[1] for name, found in built.items()},
    )


def _given(path: Path, config: VocabularySettings):
    """A user's vocabulary; one without any special token gets all behind its genes, as in scGPT."""
    special = config.special_tokens
    found, gene_ids = read_gene_vocabulary(path, [])
    if not set(special.names()) & set(found.ids):
        return Vocabulary(with_special_tokens(found.ids, special.names())), gene_ids
    check_special_tokens(found.ids, str(path), special.required())
    return found, gene_ids


def _from_sources(species: str, sources: list[CellSource], config: VocabularySettings):
    """The genes of all files of a species, or of any, or of a panel."""
    sources = [s for s in sources if s.species == species and "rna" in s.features]
    known_ids = _source_ids(species, sources)
    aliases = aliases_of(species, known_ids) if config.gene_aliases else {}
    # Files of one atlas mostly have the same genes: each list of names is kept once.
    keys = [source.features["rna"].names.tobytes() for source in sources]
    lists = {
        key: {str(name) for name in source.features["rna"].names} - {""}
        for key, source in dict(zip(keys, sources, strict=True)).items()
    }
    renamed = _one_name_each(list(lists.values()), aliases)
    lists = {key: {renamed.get(name, name) for name in names} for key, names in lists.items()}
    named = [lists[key] for key in keys]
    _check_common(species, sources, named, config.join)
    genes = set.union(*named) if config.join == "union" else set.intersection(*named)
    if config.panel:
        genes = _of_panel(genes, aliases, config, species)
    vocabulary = build_vocabulary(genes, config.special_tokens.names())
    return vocabulary, _all_ids(species, genes, {}, sources, config)


def _one_name_each(named: list[set[str]], aliases: Aliases) -> dict[str, str]:
    """Names of one gene in different files -> the one that stays: {"YARS": "YARS1"}.

    Two names of one gene in the same file are two genes to whoever made the file, and stay two.
    """
    names_of = defaultdict(set)
    for name in set().union(*named):
        genes = genes_behind(name, aliases)
        if len(genes) == 1:
            names_of[genes[0]].add(name)
    renamed = {}
    for gene, names in names_of.items():
        if len(names) > 1 and all(len(names & of_file) < 2 for of_file in named):
            stays = gene if gene in names else min(names, key=lambda n: (bool(ensembl_id(n)), n))
            renamed |= dict.fromkeys(names - {stays}, stays)
    return renamed


def _check_common(
    species: str, sources: list[CellSource], named: list[set[str]], join: str
) -> None:
    """Refuse files without a common gene: their names are of different kinds."""
    hint = (
        "Are names symbols in some files and Ensembl ids in others (name_key), or of another "
        "species (species, orthologs)?"
    )
    times = Counter(name for names in named for name in names)
    if join == "intersection" and max(times.values(), default=0) < len(named):
        counts = [f"{s.path} ({len(names)})" for s, names in zip(sources, named, strict=True)]
        raise InputError(
            f"no {species} gene is in all files: {listed(sorted(counts))}. {hint} Or set join: "
            "union."
        )
    for source, names in sorted(zip(sources, named, strict=True), key=lambda pair: pair[0].path):
        if len(sources) > 1 and not any(times[name] > 1 for name in names):
            raise InputError(
                f"{source.path} has {len(names)} {species} genes ({listed(sorted(names), 3)}), the "
                f"other files have {len(times) - len(names)} "
                f"({listed(sorted(set(times) - names), 3)}), and none is the same. {hint}"
            )


def _of_panel(
    genes: set[str], aliases: Aliases, config: VocabularySettings, species: str
) -> set[str]:
    panel = read_panel(Path(config.panel))
    tokens = {name: number for number, name in enumerate(sorted(genes))}
    found = match_genes(panel, None, tokens, aliases if config.gene_aliases else None)
    kept = set(found["token"]) - {""}
    if not kept:
        raise InputError(
            f"none of the {len(panel)} genes of {config.panel} ({listed(panel, 3)}) is among the "
            f"{len(genes)} {species} genes of the corpus ({listed(tokens, 3)}). Is it a panel of "
            "this species?"
        )
    return kept


def _source_ids(species: str, sources: list[CellSource]) -> dict[str, str]:
    """Ensembl ids that sources give their genes; of several the first by name."""
    found = defaultdict(set)
    for source in sources:
        features = source.features["rna"]
        if source.species == species and features.ids is not None:
            for name, gene_id in zip(features.names, features.ids, strict=True):
                # After orthologs were put in, ids may still be those of the other species.
                of_human = ensembl_id(str(gene_id)).startswith("ENSG")
                if name and ensembl_id(str(gene_id)) and of_human == (species.lower() in HUMAN):
                    found[str(name)].add(ensembl_id(str(gene_id)))
    return {name: min(ids) for name, ids in found.items()}


def _all_ids(
    species: str,
    genes: Collection[str],
    of_file: Mapping[str, str],
    sources: list[CellSource],
    config: VocabularySettings,
) -> dict[str, str]:
    """One Ensembl id for one gene: as the vocabulary's file has it, a source, the name, HGNC."""
    of_sources = _source_ids(species, [source for source in sources if "rna" in source.features])
    of_table = {}
    if config.gene_aliases:
        for spelling, meant in aliases_of(species, {}).items():
            if ensembl_id(spelling) and len(meant) == 1:
                of_table[meant[0]] = spelling
    found = {
        gene: of_file.get(gene)
        or of_sources.get(gene)
        or ensembl_id(gene)
        or of_table.get(gene, "")
        for gene in sorted(genes)
    }
    times = Counter(found.values())
    return {
        gene: gene_id
        for gene, gene_id in found.items()
        if gene_id not in ("", gene) and times[gene_id] == 1
    }


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
    if config.peaks:
        found = read_vocabulary(Path(config.peaks), config.special_tokens.required())
        _parsed(found, config)
        return found
    names = [source.features["atac"].names for source in sources if "atac" in source.features]
    if not names:
        return None
    unified, _ = unify_peaks(names, config.peak_match, config.join)
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
