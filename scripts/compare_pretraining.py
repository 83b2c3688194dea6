"""Put all pretraining runs side by side: a table, and their loss curves.

    python -m scripts.compare_pretraining \\
        --runs results/pretrain/{demo_masked,demo_peaks}/checkpoint \\
        --logs results/pretrain/{demo_masked,demo_peaks}/metrics.csv \\
        --out results/pretrain/comparison.csv --curves results/pretrain/loss_curves.svg

comparison.csv has a row for each run: what it learned, on how many cells, how many parameters and
steps; the training loss of its first logged batch and of its last epoch, the validation loss at
its first and its lowest, and cells per second. Losses of different objectives say nothing about
each other.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--runs", type=Path, nargs="*", required=True, help="folders of pretrain")
    made.add_argument("--logs", type=Path, nargs="*", required=True, help="their metrics.csv")
    made.add_argument("--out", type=Path, required=True, help="table to write: .csv")
    made.add_argument("--curves", type=Path, required=True, help="loss curves to write: .svg")
    args = parse(made, argv)

    from vcpipe.evaluation.pretraining_runs import comparison, curves, read_run
    from vcpipe.evaluation.training_logs import read_logs
    from vcpipe.files import writing
    from vcpipe.plots.figures import save_svg
    from vcpipe.plots.training import loss_curves

    logs = read_logs(args.logs).values()
    runs = [read_run(folder, log) for folder, log in zip(args.runs, logs, strict=True)]
    table = comparison(runs)
    with writing(args.curves) as partial:
        save_svg(loss_curves(curves(runs)), partial)
    with writing(args.out) as partial:
        table.to_csv(partial, index=False, float_format="%.6g")
    for row in table.itertuples():
        print(
            f"{row.run}, {row.objective}: validation loss {row.first_val_loss:.4f} -> "
            f"{row.best_val_loss:.4f} in {row.epochs} epochs"
        )
    print(f"{len(table)} runs -> {args.out}")


if __name__ == "__main__":
    run(main)
