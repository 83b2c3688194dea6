"""Check the quality of a converted screen: cells, depth, knock-down of the targets, controls.

Writes a folder of tables

  summary.tsv        the dataset in short: facts, how many each check flags, and what to do
  perturbations.tsv  condition and cell type: cells, depth, outliers, change from controls, flags
  targets.tsv        every perturbed gene: expression with and without the perturbation (counts
                     scaled to target_sum), knock-down with its standard error, Welch's test in the
                     direction of `effect`, rank (1: no gene falls more clearly), verdict in words
  batches.tsv        batch and cell type: cells, share of controls, depth, flags
  depth.tsv          usual range of UMI and of detected genes in each cell type
  outliers.tsv       the cells outside it

and figures of them (SVG). Flags mark, nothing is removed. A target that was not measured has the
verdict target_not_measured and no numbers.

Example, for a CRISPR activation screen:
  python -m scripts.check_dataset \\
    --cells results/convert_to_gears/norman/perturb_processed.h5ad \\
    --out results/check_dataset/norman effect=up thresholds.min_cells=50
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.checks import Checked


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Checked)
    made.add_argument("--cells", type=Path, required=True, help="perturb_processed.h5ad")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.data.checks import check_screen, write_checks
    from vcpipe.data.screen import open_screen
    from vcpipe.files import writing
    from vcpipe.plots.checks import write_check_figures

    screen = open_screen(args.cells)
    tables = check_screen(screen, args.config)
    with writing(args.out) as folder:
        folder.mkdir()
        write_checks(folder, tables)
        write_check_figures(folder, tables, args.config, screen.name)
    summary = tables["summary"]
    for row in summary[summary["advice"] != ""].itertuples():
        print(f"{row.flag}: {row.advice}")
    print(f"{screen.name}: {(summary['advice'] != '').sum()} kinds of flags -> {args.out}")


if __name__ == "__main__":
    run(main)
