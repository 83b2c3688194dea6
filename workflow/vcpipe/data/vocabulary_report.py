"""What became of every gene of every source, and how much of each source has a token."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from vcpipe.config.vocabulary import Vocabulary as VocabularySettings
from vcpipe.data.feature_ids import UNNAMED, feature_ids
from vcpipe.data.sources.file_cells import FileCells
from vcpipe.data.sources.source import CellSource
from vcpipe.data.vocabularies import UNKNOWN, Vocabularies
from vcpipe.files import writing

COLUMNS = ["dataset", "path", "species", "gene", "gene_id", "token", "token_id", "chromosome"]
COLUMNS += ["fate", "note"]
ORTHOLOG_COLUMNS = ["dataset", "path", "gene", "ortholog", "fate"]


def write_fates(
    folder: Path,
    sources: list[CellSource],
    vocabularies: Vocabularies,
    config: VocabularySettings,
) -> pd.DataFrame:
    """Write genes.tsv (every gene's token, and why) and coverage.tsv; return the latter."""
    rows = []
    with writing(folder / "genes.tsv") as partial, partial.open("w", newline="") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for source in sorted(sources, key=lambda source: (source.dataset, source.path)):
            for modality, (_, fates) in feature_ids(source, vocabularies, config).items():
                # Peaks always have a chromosome.
                row = coverage(source, modality, fates) | {"without_chromosome": 0}
                if modality == "rna":
                    genes = _named(source, fates, vocabularies)
                    genes.to_csv(file, sep="\t", index=False, header=False)
                    known = genes["token"] != ""
                    nowhere = known & genes["chromosome"].isin(["", UNKNOWN])
                    row["without_chromosome"] = int(nowhere.sum())
                rows.append(row)
    table = pd.DataFrame(rows)
    with writing(folder / "coverage.tsv") as partial:
        table.to_csv(partial, sep="\t", index=False)
    return table


def write_atlas_tables(folder: Path, sources: list[CellSource]) -> dict[str, pd.DataFrame]:
    """Write and return, where there are any, pairs.tsv and orthologs.tsv.

    pairs.tsv says of each dataset how many cells RNA and ATAC have, and how many have both;
    orthologs.tsv how every gene of the files is called, and why.
    """
    files = [source for source in sources if isinstance(source, FileCells)]
    # Every source of a dataset has the overlap of all of its files.
    pairs = {source.dataset: asdict(source.overlap) for source in files if source.overlap}
    genes = [
        source.orthologs.assign(dataset=source.dataset, path=source.path)
        for source in files
        if source.orthologs is not None
    ]
    made = {
        "pairs": pd.DataFrame([{"dataset": name} | its for name, its in pairs.items()]),
        "orthologs": pd.concat(genes)[ORTHOLOG_COLUMNS] if genes else pd.DataFrame(),
    }
    made = {name: table for name, table in made.items() if len(table)}
    for name, table in made.items():
        with writing(folder / f"{name}.tsv") as partial:
            table.to_csv(partial, sep="\t", index=False)
    return made


def _named(source: CellSource, fates: pd.DataFrame, vocabularies: Vocabularies) -> pd.DataFrame:
    places = vocabularies.gene_chromosome.get(source.species, {})
    ids = fates.get("gene_id", "")
    table = fates.assign(
        dataset=source.dataset,
        path=source.path,
        species=source.species,
        gene_id=ids,
        chromosome=[places.get(token, "") for token in fates["token"]],
    )
    return table[COLUMNS].sort_values(["gene", "gene_id"], kind="stable")


def coverage(source: CellSource, modality: str, fates: pd.DataFrame) -> dict:
    """How many features of a source have a token, and how many by another name."""
    known = fates["token_id"] >= 0
    named = int((fates["fate"] != UNNAMED).sum())
    return {
        "dataset": source.dataset,
        "path": source.path,
        "modality": modality,
        "species": source.species,
        "features": len(fates),
        "unnamed": len(fates) - named,
        "known": int(known.sum()),
        "renamed": int((known & (fates["fate"] != "exact")).sum()),
        "unknown": named - int(known.sum()),
        "share": round(int(known.sum()) / max(named, 1), 6),
    }
