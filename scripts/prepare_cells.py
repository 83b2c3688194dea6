"""Write the cells of some screens as a store that training reads: ids, counts and value bins.

    python -m scripts.prepare_cells \\
        --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
        --vocabulary results/build_vocabulary/demo/vocab.json \\
        --split results/split_perturbations/demo/simulation_1_0.75.tsv \\
        --controls results/pair_controls/demo/controls.tsv \\
        --out results/prepare_cells/demo n_bins=51

With --split and --controls (one of each per screen) only training perturbations and the models'
half of the controls enter: cells kept for val, test and scoring are never pretrained on, and of
held-out contexts no cell at all.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.preprocess import Cells


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Cells)
    made.add_argument("--cells", type=Path, nargs="+", required=True, help="converted screens")
    made.add_argument("--vocabulary", type=Path, required=True, help="vocab.json")
    made.add_argument("--split", type=Path, nargs="*", default=[], help="one per screen, or none")
    made.add_argument(
        "--controls", type=Path, nargs="*", default=[], help="one per screen, or none"
    )
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    import numpy as np

    from vcpipe.data.screen import open_screen
    from vcpipe.data.splits import read_controls, read_split, training_rows
    from vcpipe.data.store import write_store
    from vcpipe.data.vocabulary import read_vocabulary
    from vcpipe.errors import InputError

    if {len(args.split), len(args.controls)} - {0, len(args.cells)} or (
        len(args.split) != len(args.controls)
    ):
        raise InputError(
            f"{len(args.cells)} --cells, {len(args.split)} --split, {len(args.controls)} --controls"
            "; expected as many of each, or neither --split nor --controls."
        )
    sources = []
    for number, path in enumerate(args.cells):
        screen = open_screen(path)
        rows = np.arange(len(screen.cells))
        if args.split:
            split, controls = read_split(args.split[number]), read_controls(args.controls[number])
            rows = training_rows(screen, split, controls)
        sources.append((screen.name, screen, rows))
    about = {"held_out": bool(args.split)}
    manifest = write_store(args.out, sources, read_vocabulary(args.vocabulary), args.config, about)
    print(
        f"{manifest['num_cells']} cells, {manifest['num_entries']} values in {args.out}; "
        f"{manifest['num_cells_left_out']} cells had fewer than {args.config.min_genes} genes"
    )


if __name__ == "__main__":
    run(main)
