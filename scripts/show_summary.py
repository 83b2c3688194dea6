"""Print a summary.csv as a table: a row for each metric, models to the left of baselines.

The best value of each metric stands in bold and has a star; arrows say which direction is better.

Example:
  python -m scripts.show_summary results/eval/summary.csv
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("summary", type=Path, metavar="SUMMARY.csv")
    args = parse(made, argv)

    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from vcpipe.evaluation.metrics import METRICS
    from vcpipe.evaluation.summary import best_models, read_summary, wide_table

    summary = read_summary(args.summary)
    best = best_models(summary)
    # A pipe has no width; rich would then fold the table at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for place, rows in wide_table(summary).groupby(level=["dataset", "split"]):
        table = Table(title=", split ".join(place), title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("metric", no_wrap=True)
        for *_, kind, model in rows.index:
            # Names are folded at their underscores, so that five models fit 80 columns.
            name = model.replace("_", "_\n")
            table.add_column(f"{name}\n{kind}", justify="right", vertical="bottom")
        for metric in rows.columns:
            arrow = "↑" if METRICS[metric].higher_is_better else "↓"
            shown = [
                _shown(value, (*place, metric, model) in best)
                for (*_, model), value in rows[metric].items()
            ]
            table.add_row(f"{metric} {arrow}", *shown)
        console.print(table)
    console.print("↑ higher is better, ↓ lower is better; * the best; – undefined for this model")


def _shown(value: float, is_best: bool) -> str:
    if value != value:
        return "–"
    return f"[bold]{value:.3f}*[/]" if is_best else f"{value:.3f}"


if __name__ == "__main__":
    run(main)
