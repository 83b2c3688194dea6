"""Write the cell graphs that GEARS trains on: every perturbed cell beside its control cell.

The pairs are those that pair_controls has stored (GEARS draws its own, without a seed); controls
kept for scoring are left out. The file is a pickle in the layout of cell-gears 0.1.2: condition ->
list of torch_geometric Data with x (control, [genes, 1]), y (perturbed cell, [1, genes]), pert,
pert_idx, de_idx; control cells have x = y. It holds two dense rows a cell: 145 kB at 18,080 genes.

pert_idx counts the screen's perturbed genes in sorted order. GEARS counts the genes of the
gene2go_all.pkl that it is given: train it with one that holds the perturbed genes and no others.

  python -m scripts.build_cell_graphs \\
      --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
      --pairs results/pair_controls/demo/pairs.npz \\
      --out results/convert_to_gears/demo/data_pyg/cell_graphs.pkl
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.gears import CellGraphs


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, CellGraphs)
    made.add_argument("--cells", type=Path, required=True, help="perturb_processed.h5ad")
    made.add_argument("--pairs", type=Path, required=True, help="pairs.npz of pair_controls")
    made.add_argument("--out", type=Path, required=True, help="cell_graphs.pkl to write")
    args = parse(made, argv)

    from vcpipe.data.pairing import read_pairs
    from vcpipe.data.screen import open_screen
    from vcpipe.training.cell_graphs import write_cell_graphs

    screen = open_screen(args.cells)
    paired = read_pairs(args.pairs, screen).control_row
    written = write_cell_graphs(args.out, screen, paired)
    print(f"{sum(written.values())} graphs of {len(written)} conditions -> {args.out}")


if __name__ == "__main__":
    run(main)
