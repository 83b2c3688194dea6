"""Fit on the training cells of a corpus what preparation applies to all of its cells.

    python -m scripts.fit_preprocessing \\
        --screens results/convert_to_gears/demo/perturb_processed.h5ad \\
        --split results/split_perturbations/demo/simulation_1_0.75.tsv \\
        --controls results/pair_controls/demo/controls.tsv \\
        --vocabulary results/build_vocabulary/demo --out results/fit_preprocessing/demo \\
        fit.min_cells=3 fit.hvg_selection=2000

The folder gets corpus.json (species, and how cells of atlases are split) and, for each species,
record.json (all that was fitted), genes.tsv and peaks.tsv (a row for each feature: cells, counts,
whether it is kept, median, variability) and hvg.csv (highly variable genes, the first one first).
Cells of val and test are never read.
"""

from pathlib import Path

from vcpipe.config.arguments import add_corpus_arguments, parse, parser, run
from vcpipe.config.preprocess import Fitting


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Fitting)
    add_corpus_arguments(made)
    made.add_argument("--vocabulary", type=Path, required=True, help="folder of build_vocabulary")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.data.corpus import open_corpus
    from vcpipe.data.fitted_corpus import fit_corpus, read_names, write_fitted
    from vcpipe.files import writing

    names, split = read_names(args.vocabulary), args.config.cell_split
    corpus = open_corpus(args.screens, args.split, args.controls, args.atlases, split)
    fitted = fit_corpus(corpus, names, args.config)
    with writing(args.out) as folder:
        write_fitted(folder, fitted, split)
    for species, its in fitted.items():
        record = its.record
        kept = [f"{record.is_kept(name).sum()} {name} features" for name in record.kept]
        print(
            f"{species}: {record.num_cells} training cells, {', '.join(kept)} kept, "
            f"{len(record.hvgs)} highly variable genes, digest {record.digest} -> {args.out}"
        )


if __name__ == "__main__":
    run(main)
