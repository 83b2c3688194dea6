"""Write the cells of a corpus as a store that training reads: exact counts in random order.

    python -m scripts.prepare_cells \\
        --screens results/convert_to_gears/demo/perturb_processed.h5ad \\
        --split results/split_perturbations/demo/simulation_1_0.75.tsv \\
        --controls results/pair_controls/demo/controls.tsv \\
        --vocabulary results/build_vocabulary/demo --fitted results/fit_preprocessing/demo \\
        --out results/prepare_cells/demo group_by=[cell_type,condition]

With --split and --controls (one of each per screen) only training perturbations and the models'
half of the controls enter: cells kept for val, test and scoring are never pretrained on, and of
held-out contexts no cell at all. --atlases is YAML, or a file with it: {name: settings}; its cells
enter with the set that fit_preprocessing drew. Filters and genes are those of its record. With
--new the cells are others than it was fitted on: names and record are applied as they are, and all
cells are for test.
"""

from pathlib import Path

from vcpipe.config.arguments import add_corpus_arguments, parse, parser, run
from vcpipe.config.cell_store import CellStore


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, CellStore)
    add_corpus_arguments(made)
    made.add_argument("--vocabulary", type=Path, required=True, help="folder of build_vocabulary")
    made.add_argument("--fitted", type=Path, required=True, help="folder of fit_preprocessing")
    made.add_argument("--new", action="store_true", help="cells that nothing was fitted on")
    made.add_argument("--threads", type=int, default=1, help="that compress and sort (default: 1)")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.data.cell_store.writing import write_store
    from vcpipe.data.corpus import open_corpus, open_new_cells
    from vcpipe.data.corpus_names import read_names
    from vcpipe.data.corpus_to_store import to_store
    from vcpipe.data.preprocessing_record import read_record

    names, record = read_names(args.vocabulary), read_record(args.fitted / "record.json")
    if args.new:
        corpus = open_new_cells(args.screens, args.atlases, record)
    else:
        corpus = open_corpus(
            args.screens, args.split, args.controls, args.atlases, record.cell_split
        )
    sources, named, coverage = to_store(corpus, names, record)
    about = {
        "seen": corpus.seen,
        "held_out": corpus.holds_out,
        "vocabulary_digest": names.vocabularies.digest,
        "record_digest": record.digest,
        "coverage": coverage,
    }
    for where, number in sorted({(row["file"], row["new_batches"]) for row in coverage}):
        if number:
            print(f"{where}: {number} batches that the vocabulary lacks")
    manifest = write_store(args.out, sources, args.config, about, args.threads, vocabularies=named)
    for each in manifest["statistics"]["sources"]:
        left_out = ", ".join(f"{number} {why}" for why, number in each["left_out"].items())
        print(f"{each['dataset']}, {each['file']}: {each['kept']} cells; left out: {left_out}")
    print(f"{manifest['num_cells']} cells, digest {manifest['data_digest']} -> {args.out}")


if __name__ == "__main__":
    run(main)
