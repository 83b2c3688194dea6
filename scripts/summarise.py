"""Gather the scores of all models and baselines in one table, with figures and verdicts.

Writes summary.csv (a row per model, dataset, split and metric: the mean over perturbations with a
bootstrap interval), verdicts.tsv (each model against the best baseline, in words), data_checks.tsv
(what check_dataset says of each dataset), gene_matches.tsv (genes found in each vocabulary) and a
folder of figures (SVG, and a sortable HTML table).

Example:
  python -m scripts.summarise \\
    --scores results/score_perturbations/vcc/unseen/{scgpt,train_mean,no_change} \\
    --logs results/finetune_perturbation/scgpt/metrics.csv \\
    --checks results/check_dataset/vcc --checked results/eval/data_checks.tsv \\
    --out results/eval/summary.csv --verdicts results/eval/verdicts.tsv \\
    --figures results/eval/figures --matches results/match_genes/scgpt/summary.tsv \\
    --genes results/eval/gene_matches.tsv num_bootstrap=10000
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.eval import Summary


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Summary)
    made.add_argument(
        "--scores", type=Path, nargs="+", required=True, help="folders of score_perturbations"
    )
    made.add_argument("--logs", type=Path, nargs="*", default=[], help="metrics.csv of trainings")
    made.add_argument("--checks", type=Path, nargs="*", default=[], help="of check_dataset")
    made.add_argument("--checked", type=Path, required=True, help="data_checks.tsv to write")
    made.add_argument("--out", type=Path, required=True, help="summary.csv to write")
    made.add_argument("--verdicts", type=Path, required=True, help="verdicts.tsv to write")
    made.add_argument("--table", type=Path, required=True, help="sortable table to write: .html")
    made.add_argument("--losses", type=Path, required=True, help="loss curves to write: .svg")
    made.add_argument("--figures", type=Path, required=True, help="folder of figures to write")
    made.add_argument("--matches", type=Path, nargs="*", default=[], help="of match_genes")
    made.add_argument("--genes", type=Path, required=True, help="gene_matches.tsv to write")
    args = parse(made, argv)

    from vcpipe.data.checks import read_summaries
    from vcpipe.data.gene_names import read_fates
    from vcpipe.evaluation.scoring import read_scores
    from vcpipe.evaluation.summary import summarise, verdicts
    from vcpipe.evaluation.training_logs import read_logs
    from vcpipe.files import writing
    from vcpipe.plots.figures import save_svg
    from vcpipe.plots.report import write_figures
    from vcpipe.plots.table import summary_page
    from vcpipe.plots.training import loss_curves

    scores = [read_scores(folder) for folder in args.scores]
    summary = summarise(scores, args.config)
    found = verdicts(scores, summary, args.config)
    with writing(args.figures) as folder:
        write_figures(folder, scores, summary)
    with writing(args.losses) as partial:
        save_svg(loss_curves(read_logs(args.logs)), partial)
    with writing(args.table) as partial:
        partial.write_text(summary_page(summary))
    with writing(args.checked) as partial:
        read_summaries(args.checks).to_csv(partial, sep="\t", index=False)
    with writing(args.verdicts) as partial:
        found.to_csv(partial, sep="\t", index=False)
    with writing(args.genes) as partial:
        read_fates(args.matches).to_csv(partial, sep="\t", index=False)
    with writing(args.out) as partial:
        summary.to_csv(partial, index=False)
    for row in found[found["verdict"].isin(["better", "worse"])].itertuples():
        place = f"{row.dataset}, split {row.split}"
        print(f"{row.model} is {row.verdict} than {row.best_baseline} in {row.metric} ({place})")
    print(f"{len(scores)} scored models -> {args.out}")


if __name__ == "__main__":
    run(main)
