"""Simulate plates as Tahoe-100M's are: cell lines under drugs, cells sorted by drug.

    python -m scripts.simulate_plates --out results/simulate_plates/plates \\
        num_plates=6 cells_per_plate=1500 seed=3

Writes plate1.h5ad, plate2.h5ad, ...: raw counts (CSR, float32), obs with plate, cell_line, drug
(DMSO_TF in controls), moa-broad and moa-fine. The first plates have drugs of their own and some in
common, the last ones repeat all drugs: these are for validation and test. Cells are made 1,024 at
a time, so plates of any size need little memory.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.loader import SimulatedPlates


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, SimulatedPlates)
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.data.simulated_plates import write_plates
    from vcpipe.files import writing

    with writing(args.out) as folder:
        folder.mkdir()
        paths = write_plates(folder, args.config)
    print(
        f"{len(paths)} plates of {args.config.cells_per_plate} cells, {args.config.num_drugs} "
        f"drugs, {args.config.num_cell_lines} cell lines -> {args.out}"
    )


if __name__ == "__main__":
    run(main)
