"""Number the genes, peaks, chromosomes, batches and cell types of a corpus, sorted by name.

    python -m scripts.build_vocabulary \\
        --screens results/convert_to_gears/demo/perturb_processed.h5ad \\
        --atlases atlases.yaml --out results/build_vocabulary/demo join=intersection

--atlases is a YAML file, or YAML, with {name: settings}. The folder gets vocab.json (scGPT),
rna_vocab.json, atac_vocab.json, chr_vocab.json, gene2chr.json, cell_type_vocab.json,
batch_vocab.json (EpiFoundation), species/<species>.csv (scConcept) and embeddings/. With
genes=vocab.json and its like an existing file is checked against the corpus and kept as it is.
genes.tsv lists every gene of every source and the token it got; one without a token is left out
later. coverage.tsv counts them. Of atlases, orthologs.tsv says how each gene of the files is called
in the other species, and pairs.tsv how many cells have RNA, ATAC and both.
"""

from pathlib import Path

from vcpipe.config.arguments import add_source_arguments, parse, parser, run
from vcpipe.config.vocabulary import Vocabulary


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Vocabulary)
    add_source_arguments(made)
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.data.screen import open_screen
    from vcpipe.data.sources.atlas import open_atlas
    from vcpipe.data.sources.screens import ScreenCells
    from vcpipe.data.vocabulary_building import build_vocabularies
    from vcpipe.data.vocabulary_files import write_vocabularies
    from vcpipe.data.vocabulary_report import write_atlas_tables, write_fates
    from vcpipe.errors import InputError
    from vcpipe.files import write_json, writing

    sources = [ScreenCells(open_screen(path)) for path in args.screens]
    for name, atlas in args.atlases.items():
        sources += open_atlas(name, atlas)
    if not sources:
        raise InputError("there are no --screens and no --atlases; expected at least one.")
    for name, atlas in args.atlases.items():
        if atlas.orthologs and atlas.atac and args.config.gene_chromosomes:
            print(
                f"note: peaks of {name} lie in the genome of {atlas.species}, its genes are said "
                f"to lie where their orthologs of {atlas.ortholog_species} do (gene_chromosomes)"
            )
    vocabularies = build_vocabularies(sources, args.config)
    with writing(args.out) as partial:
        write_vocabularies(partial, vocabularies)
        write_json(partial / "settings.json", args.config.model_dump(mode="json"))
        table = write_fates(partial, sources, vocabularies, args.config)
        of_atlases = write_atlas_tables(partial, sources)
        if args.config.gene_embeddings:
            from vcpipe.training.gene_embeddings import write_gene_embeddings

            files, aliases = args.config.gene_embeddings, args.config.gene_aliases
            vectors = write_gene_embeddings(partial / "embeddings", vocabularies, files, aliases)
            print(vectors.to_string(index=False))
    print(table.to_string(index=False))
    if "orthologs" in of_atlases:
        fates = of_atlases["orthologs"].groupby("dataset")["fate"].value_counts()
        print("genes by what became of them:", fates.to_string(), sep="\n")
    if "pairs" in of_atlases:
        print("cells by what they are measured by:")
        print(of_atlases["pairs"].to_string(index=False))
    print(f"digest {vocabularies.digest} -> {args.out}")


if __name__ == "__main__":
    run(main)
