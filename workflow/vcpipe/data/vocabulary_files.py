"""Vocabularies as files: those of scGPT, EpiFoundation and scConcept, written and read.

vocab.json, rna_vocab.json   {gene: id} of the only species (scGPT, EpiFoundation)
species/<species>.csv        gene_id,gene_name,token (scConcept), one for every species
atac_vocab.json, chr_vocab.json, cell_type_vocab.json, batch_vocab.json, gene2chr.json
vocabularies.json            digest, species, special tokens and their values
"""

import json
from collections import Counter
from pathlib import Path

import pandas as pd

from vcpipe.config.vocabulary import SpecialTokens
from vcpipe.config.vocabulary import Vocabulary as VocabularySettings
from vcpipe.data.gene_names import ensembl_id
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.data.vocabulary import Vocabulary, check_special_tokens, read_token_ids, read_vocabulary
from vcpipe.errors import InputError, listed
from vcpipe.files import existing, read_json, write_json, writing

COLUMNS = ["gene_id", "gene_name", "token"]
ABOUT = {"digest", "species", "special_tokens", "peaks", "gene_chromosome"}


def write_vocabularies(folder: Path, vocabularies: Vocabularies) -> None:
    """Write all files; the same vocabularies give the same bytes."""
    folder, special = Path(folder), vocabularies.special_tokens.names()
    parts = {
        "atac_vocab.json": vocabularies.peaks,
        "chr_vocab.json": vocabularies.chromosomes,
        "cell_type_vocab.json": vocabularies.cell_types,
        "batch_vocab.json": vocabularies.batches,
    }
    if len(vocabularies.genes) == 1:
        parts["vocab.json"] = parts["rna_vocab.json"] = next(iter(vocabularies.genes.values()))
    for name, vocabulary in parts.items():
        if vocabulary is not None:
            write_ids(folder / name, vocabulary)
    for species, vocabulary in vocabularies.genes.items():
        path = folder / "species" / f"{species}.csv"
        write_species(path, vocabulary, vocabularies.gene_ids.get(species, {}), special)
    for species, places in vocabularies.gene_chromosome.items():
        write_json(_gene2chr(folder, species, len(vocabularies.genes)), places)
    about = {
        "digest": vocabularies.digest,
        "species": sorted(vocabularies.genes),
        "special_tokens": vocabularies.special_tokens.model_dump(mode="json"),
        "peaks": vocabularies.peaks is not None,
        "gene_chromosome": sorted(vocabularies.gene_chromosome),
    }
    write_json(folder / "vocabularies.json", about)


def read_vocabularies(folder: Path) -> Vocabularies:
    """Read what write_vocabularies wrote; a file that was changed since is refused."""
    folder = Path(folder)
    about = read_json(folder / "vocabularies.json", "the folder that build_vocabulary writes")
    if not isinstance(about, dict) or ABOUT - set(about):
        raise InputError(f"{folder} was not written by build_vocabulary; run it again.")
    special = SpecialTokens.model_validate(about["special_tokens"])
    needed = special.required()
    genes = {
        species: read_gene_vocabulary(folder / "species" / f"{species}.csv", needed)
        for species in about["species"]
    }
    found = Vocabularies(
        special_tokens=special,
        genes={species: vocabulary for species, (vocabulary, _) in genes.items()},
        gene_ids={species: ids for species, (_, ids) in genes.items()},
        gene_chromosome={
            species: read_json(_gene2chr(folder, species, len(genes)), "{gene: chromosome}")
            for species in about["gene_chromosome"]
        },
        peaks=read_vocabulary(folder / "atac_vocab.json", needed) if about["peaks"] else None,
        chromosomes=read_vocabulary(folder / "chr_vocab.json", needed),
        batches=read_labels(folder / "batch_vocab.json"),
        cell_types=read_labels(folder / "cell_type_vocab.json"),
    )
    for name in ("vocab.json", "rna_vocab.json") if len(genes) == 1 else ():
        if read_token_ids(folder / name) != next(iter(found.genes.values())).ids:
            raise InputError(f"{folder / name} and {folder}/species differ; run build_vocabulary.")
    if found.digest != about["digest"]:
        raise InputError(
            f"{folder} was changed after build_vocabulary wrote it: its digest is {found.digest}, "
            f"but vocabularies.json says {about['digest']}. Run build_vocabulary again."
        )
    return found


def _gene2chr(folder: Path, species: str, num_species: int) -> Path:
    return folder / ("gene2chr.json" if num_species == 1 else f"species/{species}_gene2chr.json")


def write_ids(path: Path, vocabulary: Vocabulary) -> None:
    """Write {name: id} in the order of ids, which readers that number lines need."""
    with writing(path) as partial:
        text = json.dumps({name: vocabulary.ids[name] for name in vocabulary.names()}, indent=0)
        partial.write_text(text + "\n")


def write_species(
    path: Path, vocabulary: Vocabulary, gene_ids: dict[str, str], special: list[str]
) -> None:
    """Write scConcept's table: gene_id is the name where no Ensembl id is known."""
    names = vocabulary.names()
    table = pd.DataFrame({"gene_id": [gene_ids.get(name, name) for name in names]})
    table["gene_name"] = ["" if name in special else name for name in names]
    table["token"] = [vocabulary.ids[name] for name in names]
    with writing(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def read_gene_vocabulary(path: Path, needed: list[str]) -> tuple[Vocabulary, dict[str, str]]:
    """Genes and their Ensembl ids (JSON has none), of vocab.json, rna_vocab.json or a CSV."""
    path = Path(path)
    if path.suffix != ".csv":
        return read_vocabulary(path, needed), {}
    vocabulary, gene_ids = read_species(path)
    check_special_tokens(vocabulary.ids, str(path), needed)
    return vocabulary, gene_ids


def read_species(path: Path) -> tuple[Vocabulary, dict[str, str]]:
    """Read scConcept's gene_id,gene_name,token: genes by name, those of one name by id."""
    existing(path, "a vocabulary: gene_id,gene_name,token")
    # "NA" would be a gene, not a missing value.
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    if not {"gene_id", "token"} <= set(table):
        raise InputError(f"{path} has the columns {listed(table)}; expected {listed(COLUMNS)}.")
    symbols = table.get("gene_name", pd.Series("", index=table.index))
    times = Counter([*symbols, *table["gene_id"]])
    names = [
        symbol if symbol and (times[symbol] == 1 or symbol == gene_id) else gene_id
        for symbol, gene_id in zip(symbols, table["gene_id"], strict=True)
    ]
    twice = sorted(name for name, number in Counter(names).items() if number > 1 or not name)
    if twice:
        raise InputError(f"{path} lists {listed(twice) or 'an empty gene'} twice; expected once.")
    try:
        numbers = [int(token) for token in table["token"]]
    except ValueError as error:
        raise InputError(f"{path} has a token that is no integer ({error}).") from error
    if sorted(numbers) != list(range(len(numbers))):
        raise InputError(
            f"{path} has {len(numbers)} tokens that are not 0..{len(numbers) - 1}, each once; "
            "expected the table that belongs to the checkpoint."
        )
    gene_ids = {
        name: gene_id
        for name, gene_id in zip(names, table["gene_id"], strict=True)
        if ensembl_id(gene_id) and gene_id != name
    }
    return Vocabulary(dict(zip(names, numbers, strict=True))), gene_ids


def read_labels(path: Path) -> Vocabulary:
    """Read {label: id}, without special tokens."""
    return Vocabulary(read_token_ids(path))


def check_same_special_ids(genes: dict[str, Vocabulary], config: VocabularySettings) -> None:
    """Refuse species whose special tokens have other numbers: their cells share a batch."""
    for token in config.special_tokens.names():
        ids = {species: vocabulary.ids.get(token) for species, vocabulary in genes.items()}
        if len(set(ids.values())) > 1:
            shown = ", ".join(f"{number} in {species}" for species, number in ids.items())
            raise InputError(
                f"{token} has different ids in the vocabularies of species: {shown}; expected the "
                "same in all."
            )
