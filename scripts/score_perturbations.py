"""Score predicted cells against the measured cells of the held-out perturbations.

The predictions are an h5ad with log1p values (counts scaled to 10,000 per cell), an obs column
condition (GENE+ctrl or A+B), the screen's genes in any order, and in uns['vcpipe'] the JSON text
{"model": ..., "kind": "model", "dataset": ..., "split": ...}. Any tool may have made them.

Writes a folder: per_perturbation.csv (a value per perturbation and metric), profiles.h5ad (mean
profiles, predicted and measured) and about.json. Undefined values stay empty, never 0.

Example:
  python -m scripts.score_perturbations \\
    --predictions results/predict_perturbations/vcc/unseen/scgpt.h5ad \\
    --cells results/convert_to_gears/vcc/perturb_processed.h5ad \\
    --split results/split_perturbations/vcc/unseen.tsv \\
    --controls results/pair_controls/vcc/controls.tsv \\
    --out results/score_perturbations/vcc/unseen/scgpt num_de_genes=50
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.eval import Scoring


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Scoring)
    made.add_argument("--predictions", type=Path, required=True, help="h5ad of predicted cells")
    made.add_argument("--cells", type=Path, required=True, help="perturb_processed.h5ad")
    made.add_argument("--split", type=Path, required=True, help="TSV of split_perturbations")
    made.add_argument("--controls", type=Path, required=True, help="controls.tsv of pair_controls")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.data.model_cells import evaluated_conditions
    from vcpipe.data.predictions import open_predictions
    from vcpipe.data.screen import open_screen
    from vcpipe.data.splits import read_controls, read_split
    from vcpipe.evaluation.scoring import score, write_scores

    screen = open_screen(args.cells)
    split = read_split(args.split)
    conditions = list(evaluated_conditions(split))
    predictions = open_predictions(args.predictions, screen.genes, conditions)
    scores = score(screen, predictions, split, read_controls(args.controls), args.config)
    write_scores(args.out, scores)
    for note in scores.about["notes"]:
        print(f"note: {note}")
    print(f"{scores.about['model']}: scored {len(conditions)} perturbations -> {args.out}")


if __name__ == "__main__":
    run(main)
