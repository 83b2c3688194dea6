"""Number the genes of some screens: vocab.json, as scGPT writes it, sorted by name.

    python -m scripts.build_vocabulary \\
        --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
        --out results/build_vocabulary/demo/vocab.json \\
        --genes results/build_vocabulary/demo/genes.tsv

With path=vocab.json an existing vocabulary (scGPT's) is checked against the genes and kept as is.
genes.tsv lists every gene of every screen and the id it got; a gene without one is left out later.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.preprocess import Vocabulary


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Vocabulary)
    made.add_argument("--cells", type=Path, nargs="+", required=True, help="converted screens")
    made.add_argument("--out", type=Path, required=True, help="vocab.json to write")
    made.add_argument("--genes", type=Path, required=True, help="table of genes and ids to write")
    args = parse(made, argv)

    from vcpipe.data.screen import open_screen
    from vcpipe.data.vocabulary import build_vocabulary, check_match, gene_table, read_vocabulary
    from vcpipe.files import write_json, writing

    screens = [open_screen(path) for path in args.cells]
    genes = [gene for screen in screens for gene in screen.genes]
    if args.config.path:
        vocabulary = read_vocabulary(Path(args.config.path))
        known = vocabulary.encode(genes)
        check_match(genes, known, args.config.min_gene_match, args.config.path)
    else:
        vocabulary = build_vocabulary(genes, args.config.special_tokens)

    table = gene_table(vocabulary, {str(screen.path): screen.genes for screen in screens})
    with writing(args.genes) as partial:
        table.to_csv(partial, sep="\t", index=False)
    write_json(args.out, vocabulary.ids)
    print(
        f"{len(vocabulary)} tokens, digest {vocabulary.digest}; "
        f"{int((table['id'] >= 0).sum())} of {len(table)} genes have an id"
    )


if __name__ == "__main__":
    run(main)
