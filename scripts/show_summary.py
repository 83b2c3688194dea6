"""Print a summary.csv as a table: models above baselines, a column for each metric.

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
        table.add_column("model", no_wrap=True)
        table.add_column("kind")
        for metric in rows.columns:
            arrow = "↑" if METRICS[metric].higher_is_better else "↓"
            table.add_column(f"{metric} {arrow}", justify="right")
        for (*_, kind, model), values in rows.iterrows():
            shown = [_shown(v, (*place, m, model) in best) for m, v in values.items()]
            table.add_row(model, kind, *shown, style="dim" if kind == "baseline" else None)
        console.print(table)


def _shown(value: float, is_best: bool) -> str:
    if value != value:
        return "–"
    return f"[bold not dim]{value:.3f}*[/]" if is_best else f"{value:.3f}"


if __name__ == "__main__":
    run(main)
