"""Write the cell graphs that GEARS trains on: every perturbed cell beside its control cell.

The pairs are those that pair_controls has stored (GEARS draws its own, without a seed); controls
kept for scoring are left out, or stand beside themselves as in GEARS (include_scoring_controls).
The file is a pickle: condition -> list of torch_geometric Data with x (control), y (perturbed cell,
[1, genes]), pert and de_idx; control cells have x = y. By layout, x is

  0.1.2  [genes, 1], and pert_idx numbers the perturbed genes; 145 kB a cell at 18,080 genes
  0.0.2  [genes, 2]: expression and 1 for a perturbed gene, as scGPT's tutorial reads; 217 kB

pert_idx counts, in sorted order, the measured and perturbed genes of gene2go, as GEARS does with
that gene2go_all.pkl and default_pert_graph=False. With gene2go=perturbed it counts the perturbed
genes, which GEARS does only with a gene2go_all.pkl that holds these and no others.

  python -m scripts.build_cell_graphs \\
      --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
      --pairs results/pair_controls/demo/pairs.npz \\
      --out results/convert_to_gears/demo/data_pyg/cell_graphs.pkl gene2go=gene2go_all.pkl
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

    from vcpipe.data.gene_ontology import counted_genes
    from vcpipe.data.pairing import read_pairs
    from vcpipe.data.screen import open_screen
    from vcpipe.training.cell_graphs import write_cell_graphs

    screen = open_screen(args.cells)
    paired = read_pairs(args.pairs, screen).control_row
    written = write_cell_graphs(args.out, screen, paired, args.config, counted_genes(args.config))
    print(f"{sum(written.values())} graphs of {len(written)} conditions -> {args.out}")


if __name__ == "__main__":
    run(main)
