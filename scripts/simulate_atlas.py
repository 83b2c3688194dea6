"""Simulate cells of several types, with genes and the open chromatin beside them.

    python -m scripts.simulate_atlas --species human --out results/simulate_atlas/demo_human \\
        num_cells=2000 num_peaks=5000 seed=3

Writes into a folder:

rna.h5ad               raw counts (CSR, float32) of cells x genes; obs has batch and cell_type
atac.h5ad              of the same cells x peaks (chr1:1000-1500), unless num_peaks is 0
gene_chromosomes.tsv   gene, chromosome

Species of one seed have the same cell types in orthologous genes (ACTB, Actb), which differ in
their levels. What peaks near a gene tell of it is all that there is to be learned from peaks.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.atlases import SimulatedAtlas


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, SimulatedAtlas)
    made.add_argument("--species", default="human", help="whose genes these are (default: human)")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.data.simulated_atlas import plan_atlas, write_atlas
    from vcpipe.files import writing

    plan = plan_atlas(args.config, args.species)
    with writing(args.out) as folder:
        folder.mkdir()
        write_atlas(folder, plan)
    print(
        f"{args.config.num_cells} cells of {args.species}, {len(plan.genes)} genes, "
        f"{len(plan.peaks)} peaks -> {args.out}"
    )


if __name__ == "__main__":
    run(main)
