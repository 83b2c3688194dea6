"""What a source's genes and peaks are in the vocabularies, and what became of each of them."""

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np
import pandas as pd

from vcpipe.config.vocabulary import Vocabulary as VocabularySettings
from vcpipe.data.gene_names import Aliases, match_genes, read_aliases
from vcpipe.data.peaks import place_peaks
from vcpipe.data.sources.source import MODALITIES, CellSource, Features
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.errors import InputError, listed

# HGNC's table is of human genes: "T" is an old name of TBXT, and a mouse gene of today.
HUMAN = {"human", "hsapiens", "homo_sapiens"}
# A gene without an ortholog has no name; it is in no vocabulary and no mistake.
UNNAMED = "unnamed"
# Below this share a table of orthologs is of other genes; mouse and human share nine in ten.
FEWEST_ORTHOLOGS = 0.1


@cache
def _human_aliases() -> Aliases:
    return read_aliases()


def aliases_of(species: str, gene_ids: Mapping[str, str]) -> Aliases:
    """Former symbols (human) and the Ensembl ids that sources or a vocabulary's file know."""
    found = dict(_human_aliases()) if species.lower() in HUMAN else {}
    for gene, gene_id in sorted(gene_ids.items()):
        meant = found.setdefault(gene, (gene,))
        if len(meant) == 1:
            found.setdefault(gene_id, meant)
    return found


def match_species_genes(
    genes: Iterable[str],
    gene_ids: Iterable[str] | None,
    vocabularies: Vocabularies,
    species: str,
    gene_aliases: bool = True,
) -> pd.DataFrame:
    """match_genes with what is known of a species; special tokens are no gene of anybody."""
    vocabulary = vocabularies.of("rna", species)
    tokens = {name: vocabulary.ids[name] for name in vocabularies.features(vocabulary)}
    aliases = aliases_of(species, vocabularies.gene_ids.get(species, {})) if gene_aliases else None
    genes = np.array([str(gene) for gene in genes], dtype=object)
    ids = None if gene_ids is None else np.array(list(gene_ids), dtype=object)
    named = genes != ""
    matches = match_genes(genes[named], None if ids is None else ids[named], tokens, aliases)
    matches.index = np.flatnonzero(named)
    table = matches.reindex(range(len(genes)))
    table["gene"] = genes
    if ids is not None:
        table["gene_id"] = ids
    missing = ~named
    table.loc[missing, ["token", "note"]] = ""
    table.loc[missing, "token_id"] = -1
    table.loc[missing, "fate"] = UNNAMED
    return table.astype({"token_id": np.int32})


def feature_ids(
    source: CellSource, vocabularies: Vocabularies, config: VocabularySettings
) -> dict[str, tuple[np.ndarray, pd.DataFrame]]:
    """By modality: ids of the source's features (int32, -1: unknown), and the fate of each.

    Several peaks of a source may be one peak of the vocabulary, so that their ids repeat.
    """
    found = {}
    for modality, features in source.features.items():
        fates = _fates(modality, features, source, vocabularies, config)
        _check(source, modality, fates, vocabularies, config)
        found[modality] = fates["token_id"].to_numpy(dtype=np.int32), fates
    return found


def _fates(
    modality: str,
    features: Features,
    source: CellSource,
    vocabularies: Vocabularies,
    config: VocabularySettings,
) -> pd.DataFrame:
    if modality == "rna":
        return match_species_genes(
            features.names, features.ids, vocabularies, source.species, config.gene_aliases
        )
    vocabulary = vocabularies.of(modality, source.species)
    names = np.array(vocabularies.features(vocabulary), dtype=str)
    exact = place_peaks(features.names, names, "exact")
    places = np.where(exact < 0, place_peaks(features.names, names, config.peak_match), exact)
    # The last of these is taken by -1.
    tokens = np.append(names, "")[places]
    table = pd.DataFrame({"peak": features.names, "token": tokens})
    table["token_id"] = vocabulary.encode(tokens.tolist())
    table["fate"] = np.select([exact >= 0, places >= 0], ["exact", "overlap"], "missing")
    return table.assign(note="")


def _check(
    source: CellSource,
    modality: str,
    fates: pd.DataFrame,
    vocabularies: Vocabularies,
    config: VocabularySettings,
) -> None:
    """Refuse a source that a given vocabulary does not fit; a panel leaves genes out on purpose."""
    names = fates[MODALITIES[modality]]
    named = fates["fate"] != UNNAMED
    unknown = named & (fates["token_id"] < 0)
    given = config.genes if modality == "rna" else config.peaks
    chosen = given is None and (config.join == "intersection" or config.panel is not None)
    if chosen and not unknown[named].all():
        return
    what = f"{MODALITIES[modality]}s"
    if named.mean() < FEWEST_ORTHOLOGS:
        raise InputError(
            f"{source.path} ({source.dataset}): orthologs gives a name to {named.sum()} of its "
            f"{len(named)} {what}. Are its columns the other way round? Expected to,from: the name "
            "to use, then the name in this atlas."
        )
    share = 1 - unknown.sum() / max(named.sum(), 1)
    if share < config.min_gene_match or not named.any():
        known = vocabularies.features(vocabularies.of(modality, source.species))
        raise InputError(
            f"{source.path} ({source.dataset}): the vocabulary holds {share:.1%} of its "
            f"{named.sum()} {what}; expected at least {config.min_gene_match:.0%} "
            f"(min_gene_match). It lacks {listed(names[unknown], 3)}; its own are "
            f"{listed(known, 3)}. {_hint(modality, source.species)}"
        )
    if unknown.any() and modality == "rna" and config.unknown_genes == "error":
        raise InputError(
            f"{source.path} ({source.dataset}): the vocabulary lacks {unknown.sum()} of its "
            f"{named.sum()} genes: {listed(names[unknown])}. Set unknown_genes: drop to leave "
            "them out."
        )


def _hint(modality: str, species: str) -> str:
    if modality == "atac":
        return "Are both of the same genome assembly?"
    return (
        f"Are the genes of {species} (species, orthologs), and symbols or Ensembl ids (name_key)?"
    )
