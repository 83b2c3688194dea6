"""Make the .vcc file of a list of targets, as the Virtual Cell Challenge 2025 takes it.

    python -m scripts.package_submission \\
        --predictions results/predict_perturbations/vcc/validation/scgpt_vcc.h5ad \\
        --cells results/convert_to_gears/vcc/perturb_processed.h5ad \\
        --targets resources/data/pert_counts_Validation.csv \\
        --genes resources/data/gene_names.csv \\
        --out results/package_submission/vcc/validation/scgpt_vcc.vcc \\
        --checks results/package_submission/vcc/validation/scgpt_vcc.tsv

Predicted cells and the screen's control cells, both log-normalised, go through the challenge's own
cell-eval prep, which must be installed beside Python (make env NAME=cell_eval) and needs tar and
zstd. Then the file is opened and compared with what was to be in it; --checks is the table of that.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.eval import Submission


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Submission)
    made.add_argument("--predictions", type=Path, required=True, help="h5ad of the list's cells")
    made.add_argument("--cells", type=Path, required=True, help="converted screen, for controls")
    made.add_argument("--targets", type=Path, required=True, help="list: target_gene, n_cells")
    made.add_argument("--genes", type=Path, help="genes in order (default: those of the screen)")
    made.add_argument("--out", type=Path, required=True, help=".vcc file to write")
    made.add_argument("--checks", type=Path, required=True, help="TSV of checks to write")
    args = parse(made, argv)

    from vcpipe.data.screen import open_screen
    from vcpipe.evaluation.submission import package, write_submission

    screen = open_screen(args.cells)
    submitted = package(args.predictions, screen, args.targets, args.genes, args.config)
    write_submission(submitted, args.config, args.out, args.checks)
    num_cells, num_controls = len(submitted.labels), len(submitted.control_rows)
    print(f"wrote {args.out}: {num_cells} cells, {num_controls} of them controls")


if __name__ == "__main__":
    run(main)
