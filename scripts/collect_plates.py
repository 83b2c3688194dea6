"""Write the training cells of plates as one zarr collection, in their order: backend zarr.

    python -m scripts.collect_plates --plates results/simulate_plates/plates \\
        --out results/collect_plates/plates.zarr train_plates=[1,2,3,4]

annbatch reads such a collection too.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.loader import TrainingCells


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, TrainingCells)
    made.add_argument("--plates", type=Path, required=True, help="folder of h5ad files")
    made.add_argument("--out", type=Path, required=True, help="folder to write, named *.zarr")
    args = parse(made, argv)

    from vcpipe.data.loading.zarr_writing import write_collection
    from vcpipe.data.plates import find_plates, label_table, open_plates

    plates = find_plates(args.plates, args.config.train_plates)
    reader = open_plates(list(plates.values()), args.config.max_train_cells)
    write_collection(reader, args.out, label_table(reader, args.config.columns), reader.genes)
    print(f"{len(reader)} cells of {len(plates)} plates -> {args.out}")


if __name__ == "__main__":
    run(main)
