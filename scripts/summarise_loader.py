"""Gather the runs of loader_experiment in one table, with figures.

    python -m scripts.summarise_loader --runs results/loader_experiment/{streaming,full_shuffle} \\
        --out results/loader/summary.csv --seeds results/loader/over_seeds.tsv \\
        --comparison results/loader/comparison.svg --curves results/loader/training_curves.svg \\
        --times results/loader/time_comparison.svg --quality results/loader/quality.svg

summary.csv     a row for each strategy, seed and task, and rows of chance and majority: how well
                cells are classified, how fast they came, what that took, how mixed batches were
over_seeds.tsv  of each strategy and task the mean over seeds, its spread and a 95 % interval

The figures are SVG.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument(
        "--runs", type=Path, nargs="+", required=True, help="folders of loader_experiment"
    )
    made.add_argument("--out", type=Path, required=True, help="summary.csv to write")
    made.add_argument("--seeds", type=Path, required=True, help="over_seeds.tsv to write")
    made.add_argument("--comparison", type=Path, required=True, help="macro-F1 by task, to write")
    made.add_argument("--curves", type=Path, required=True, help="losses of drug, to write")
    made.add_argument("--times", type=Path, required=True, help="seconds, to write")
    made.add_argument("--quality", type=Path, required=True, help="macro-F1 by speed, to write")
    args = parse(made, argv)

    from vcpipe.evaluation.loader_summary import over_seeds, read_results, summarise_results
    from vcpipe.files import writing
    from vcpipe.plots.figures import save_svg
    from vcpipe.plots.loader import (
        plot_comparison,
        plot_quality,
        plot_time_comparison,
        plot_training_curves,
    )

    results = read_results(args.runs)
    summary = summarise_results(results)
    means = over_seeds(summary)
    figures = {
        args.comparison: plot_comparison(summary, "A linear classifier under each strategy"),
        args.curves: plot_training_curves(results, "drug"),
        args.times: plot_time_comparison(summary),
        args.quality: plot_quality(summary, "drug"),
    }
    for path, (figure, _) in figures.items():
        with writing(path) as partial:
            save_svg(figure, partial)
    with writing(args.seeds) as partial:
        means.to_csv(partial, sep="\t", index=False, float_format="%.6g")
    with writing(args.out) as partial:
        summary.to_csv(partial, index=False)
    for row in means[means["task"] == "drug"].itertuples():
        spread = f" ± {row.macro_f1_sd:.3f}" if row.num_seeds > 1 else ""
        print(f"{row.strategy}: macro-F1 of drug {row.macro_f1:.3f}{spread}")
    print(f"{len(results)} runs -> {args.out}")


if __name__ == "__main__":
    run(main)
