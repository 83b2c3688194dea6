"""Say of every gene of a screen which token of a vocabulary stands for it, and why.

    python -m scripts.match_genes \\
        --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
        --vocabulary resources/scgpt/vocab.json --out fates.tsv

    python -m scripts.match_genes --genes gene_names.csv \\
        --vocabulary resources/scgpt/vocab.json --out fates.tsv gene_aliases=false

--genes is a plain list, one gene a line, no header. Renamed genes are found by HGNC's previous
symbols and Ensembl ids (resources/gene_aliases.tsv.gz). The table has gene, gene_id (if the screen
has Ensembl ids), token, token_id (-1: none), fate and note. A gene's fate is exact,
previous_symbol, current_symbol, ensembl_id or version_suffix; or, without a token, collision
(another gene has it), ambiguous or missing. Collisions and ambiguous names are printed, too.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.finetune import GeneMatching


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, GeneMatching)
    screen_or_list = made.add_mutually_exclusive_group(required=True)
    screen_or_list.add_argument("--cells", type=Path, help="converted screen")
    screen_or_list.add_argument("--genes", type=Path, help="names of genes, one a line")
    made.add_argument("--vocabulary", type=Path, required=True, help="scGPT's vocab.json")
    made.add_argument("--out", type=Path, required=True, help="table of genes to write: .tsv")
    made.add_argument("--summary", type=Path, help="numbers of fates to write: .tsv")
    made.add_argument("--run", default="by_hand", help="what the numbers are of (a finetuning run)")
    args = parse(made, argv)

    from vcpipe.data.gene_names import count_fates, match_genes, read_aliases, read_gene_list
    from vcpipe.data.screen import open_screen
    from vcpipe.data.vocabulary import read_token_ids
    from vcpipe.files import writing

    if args.cells:
        screen = open_screen(args.cells)
        dataset, genes, gene_ids = screen.name, screen.genes, screen.gene_ids
    else:
        dataset, genes, gene_ids = args.genes.stem, read_gene_list(args.genes), None
    aliases = read_aliases() if args.config.gene_aliases else None
    matches = match_genes(genes, gene_ids, read_token_ids(args.vocabulary), aliases)
    fates = count_fates(matches)

    with writing(args.out) as partial:
        matches.to_csv(partial, sep="\t", index=False)
    if args.summary:
        named = fates.assign(run=args.run, dataset=dataset)
        with writing(args.summary) as partial:
            named[["run", "dataset", *fates]].to_csv(partial, sep="\t", index=False)
    number = fates.set_index("fate")["number"]
    print(
        f"{number['exact']} of {len(matches)} genes have a token of their name, "
        f"{number['matched']} with aliases ({number['matched'] / len(matches):.2%}) -> {args.out}"
    )
    for row in matches[matches["note"] != ""].itertuples():
        print(f"{row.gene}: {row.fate}, {row.note}")


if __name__ == "__main__":
    run(main)
