"""Make resources/gene_aliases.tsv.gz from HGNC's list of genes; run by hand, the result is shipped.

    python -m scripts.build_gene_aliases --hgnc hgnc_complete_set.txt \\
        --out resources/gene_aliases.tsv.gz

Reads hgnc_complete_set.txt (genenames.org, Statistics & download files; CC0) or a custom download
with the columns Approved symbol, Status, Previous symbols and Ensembl gene ID. Writes, of approved
genes, symbol, ensembl_id and previous (A|B). Alias symbols are left out: several genes share many
of them. The same input gives the same bytes.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--hgnc", type=Path, required=True, help="HGNC's table of genes")
    made.add_argument("--out", type=Path, required=True, help="gene_aliases.tsv.gz to write")
    args = parse(made, argv)

    from vcpipe.data.hgnc import read_hgnc, write_aliases

    genes = read_hgnc(args.hgnc)
    write_aliases(args.out, genes)
    print(
        f"{len(genes)} genes, {(genes['ensembl_id'] != '').sum()} with an Ensembl id, "
        f"{(genes['previous'] != '').sum()} with previous symbols -> {args.out}"
    )


if __name__ == "__main__":
    run(main)
