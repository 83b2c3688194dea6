"""Fit on the training cells of a corpus what preparation applies to all of its cells.

    python -m scripts.fit_preprocessing \\
        --screens results/convert_to_gears/demo/perturb_processed.h5ad \\
        --split results/split_perturbations/demo/simulation_1_0.75.tsv \\
        --controls results/pair_controls/demo/controls.tsv \\
        --vocabulary results/build_vocabulary/demo --out results/fit_preprocessing/demo \\
        fit.min_cells=3 fit.hvg_selection=2000

Cells of atlases are drawn into train, val and test (cell_split); of screens the split of
perturbations decides. Cells of val and test are never read. The folder gets record.json (all that
was fitted, and how cells were split), genes.tsv and peaks.tsv (a row for each feature: cells,
counts, whether it is kept, median, variability) and hvg.csv (highly variable genes, the first one
first; of several species one each).
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
    from vcpipe.data.corpus_names import read_names
    from vcpipe.data.fitted_corpus import fit_corpus
    from vcpipe.data.fitting_files import write_fitted
    from vcpipe.files import writing

    names, split = read_names(args.vocabulary), args.config.cell_split
    corpus = open_corpus(args.screens, args.split, args.controls, args.atlases, split)
    fitted = fit_corpus(corpus, names, args.config)
    with writing(args.out) as folder:
        folder.mkdir()
        write_fitted(folder, fitted, names.vocabularies.special_tokens.names())
    print(f"fitted on {fitted.record.num_cells} training cells -> {args.out}")
    for what, reasons in fitted.record.dropped.items():
        left_out = ", ".join(f"{number} by {reason}" for reason, number in reasons.items())
        print(f"{what} left out: {left_out}")


if __name__ == "__main__":
    run(main)
