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
    from vcpipe.data.plates import find_plates, label_table, open_plates, origin_of

    plates = find_plates(args.plates, args.config.train_plates)
    paths, max_cells = list(plates.values()), args.config.max_train_cells
    reader = open_plates(paths, max_cells)
    labels, about = label_table(reader, args.config.columns), origin_of(paths, max_cells)
    write_collection(reader, args.out, labels, reader.genes, about=about)
    print(f"{len(reader)} cells of {len(plates)} plates -> {args.out}")


if __name__ == "__main__":
    run(main)
