"""The genes of a corpus, for each species: the user's file, or the names in its sources."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from vcpipe.config.vocabulary import Vocabulary as VocabularySettings
from vcpipe.data.feature_ids import HUMAN, aliases_of
from vcpipe.data.gene_names import Aliases, ensembl_id, genes_behind, match_genes
from vcpipe.data.gene_panels import read_panel
from vcpipe.data.sources.source import CellSource
from vcpipe.data.vocabulary import (
    Vocabulary,
    build_vocabulary,
    check_special_tokens,
    refuse_other_tokens,
    with_special_tokens,
)
from vcpipe.data.vocabulary_files import check_same_special_ids, read_gene_vocabulary
from vcpipe.errors import InputError, listed


def by_species(
    files: str | dict[str, str] | None, species: Collection[str], key: str
) -> dict[str, str]:
    """{species: file}; one file for all is right only where there is one species."""
    if isinstance(files, str):
        if len(species) != 1:
            raise InputError(
                f"{key} is one file, but the corpus has genes of {listed(sorted(species))}; "
                "expected {species: file}."
            )
        return {next(iter(species)): files}
    return files or {}


def gene_vocabularies(
    sources: list[CellSource], config: VocabularySettings
) -> tuple[dict[str, Vocabulary], dict[str, dict[str, str]]]:
    """Vocabularies, and the Ensembl ids of their genes, by species."""
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
    refuse_other_tokens(found.ids, special.names(), str(path))
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
    keys = [(len(f.names), f.names.tobytes()) for f in (s.features["rna"] for s in sources)]
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
