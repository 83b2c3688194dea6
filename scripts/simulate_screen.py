"""Simulate a perturbation screen whose true effects are known, in the form of the VCC's h5ad.

    python -m scripts.simulate_screen --out results/simulate_screen/demo/screen.h5ad \\
        --truth results/simulate_screen/demo/truth.h5ad \\
        --network results/simulate_screen/demo/network.tsv num_cells=5000 seed=3

screen.h5ad   raw counts (CSR, float32) of cells x genes; obs has target_gene ("non-targeting" in
              controls), guide_id and batch; var is indexed by gene symbols
truth.h5ad    true log2 fold changes of targets x genes; obs has knockdown and has_effect, var has
              the program of each gene
network.tsv   regulator, gene, weight: log2 change of the gene per log2 change of its regulator

Genes of one program rise and fall together from cell to cell, and targets of one program have
similar effects: what a model learns from unperturbed cells helps it with a target it has not seen.
Cells are made 1024 at a time, so 200,000 cells x 18,000 genes need little memory.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.datasets import Simulation


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Simulation)
    made.add_argument("--out", type=Path, required=True, help="h5ad of the screen to write")
    made.add_argument("--truth", type=Path, required=True, help="h5ad of true changes to write")
    made.add_argument("--network", type=Path, required=True, help="table of edges to write")
    args = parse(made, argv)

    from vcpipe.data.simulation import plan_screen, write_network, write_screen, write_truth

    plan = plan_screen(args.config)
    write_network(args.network, plan.network)
    write_truth(args.truth, plan)
    write_screen(args.out, plan)
    print(
        f"{args.config.num_cells} cells, {args.config.num_genes} genes, "
        f"{args.config.num_targets} targets in {args.out}"
    )


if __name__ == "__main__":
    run(main)
