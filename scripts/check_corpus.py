"""Say what a corpus is made of: coverage of its vocabulary, cells, lengths of sequences, bins.

    python -m scripts.check_corpus --fitted results/fit_preprocessing/demo \\
        --store results/prepare_cells/demo \\
        --out results/check_corpus/demo runs.demo='{strategy: rank_value, max_genes: 512}'

Writes a folder of tables

  coverage.tsv    genes and peaks of each source: used, filtered out, unknown to the vocabulary
  cells.tsv       cells of each source: kept, by set, and left out, by reason
  features.tsv    genes and peaks that fitting left out, by reason
  lengths.tsv     how many cells have how many detected genes and peaks
  truncation.tsv  what each run has room for, quantiles of lengths, and the share that is cut
  bins.tsv        how often each bin occurs in training cells, for each run that bins

and figures of them (SVG). `runs` are tokenizers by name.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.corpora import Tokenizers


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Tokenizers)
    made.add_argument("--fitted", type=Path, required=True, help="folder of fit_preprocessing")
    made.add_argument("--store", type=Path, required=True, help="folder of prepare_cells")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.data.cell_store.reading import open_store
    from vcpipe.data.corpus_report import corpus_tables
    from vcpipe.data.preprocessing_record import read_record
    from vcpipe.files import writing
    from vcpipe.plots.corpora import write_corpus_figures

    store, record = open_store(args.store), read_record(args.fitted / "record.json")
    tables = corpus_tables(store, record, args.config.runs)
    with writing(args.out) as folder:
        folder.mkdir()
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.tsv", sep="\t", index=False, float_format="%.6g")
        write_corpus_figures(folder, tables, args.store.name)
    for row in tables["truncation"].itertuples():
        longer = f"{row.truncated_share:.1%} of cells have more than {row.most_tokens} features"
        print(f"{row.run}, {row.modality}: {longer}")
    sources = tables["cells"]["source"].nunique()
    print(f"{len(store)} cells of {sources} sources -> {args.out}")


if __name__ == "__main__":
    run(main)
