"""Write the training cells of plates as our store, shuffled on disk once: the arm full_shuffle.

    python -m scripts.shuffle_plates --plates results/simulate_plates/plates \\
        --out results/shuffle_plates/store train_plates=[1,2,3,4]

A store keeps exact counts and the labels of cells, in an order that is exactly random. Who reads it
from its start to its end sees cells of all plates and drugs mixed.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.loader import TrainingCells


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, TrainingCells)
    made.add_argument("--plates", type=Path, required=True, help="folder of h5ad files")
    made.add_argument("--threads", type=int, default=1, help="that compress and sort (default: 1)")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.config.cell_store import CellStore
    from vcpipe.data.plates import find_plates
    from vcpipe.data.plates_to_store import write_plates_as_store

    plates = find_plates(args.plates, args.config.train_plates)
    manifest = write_plates_as_store(
        args.out,
        plates,
        args.config.columns,
        args.config.max_train_cells,
        CellStore(),
        args.threads,
    )
    print(f"{manifest['num_cells']} cells of {len(plates)} plates -> {args.out}")


if __name__ == "__main__":
    run(main)
