"""Average the cells that several models predict from the same control cells.

    python -m scripts.average_predictions \\
        --predictions results/predict_perturbations/vcc/unseen/scgpt_seed{0,1,2}.h5ad \\
        --name scgpt --out results/average_predictions/vcc/unseen/scgpt.h5ad

Cell by cell and gene by gene, on the log scale. The files must hold the same perturbations and
genes in the same order, as those of predict_perturbations with one eval.prediction.seed do. Raw
counts (counts=true) are drawn from the mean, as many for a cell as the first file has for it.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.eval import Prediction


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Prediction)
    made.add_argument(
        "--predictions", type=Path, nargs="+", required=True, help="h5ad files of predicted cells"
    )
    made.add_argument("--name", required=True, help="what the summary calls their mean")
    made.add_argument("--out", type=Path, required=True, help="h5ad of predicted cells to write")
    args = parse(made, argv)

    from vcpipe.data.averaged_predictions import average_predictions

    average_predictions(args.predictions, args.name, args.config, args.out)
    print(f"{args.name}: the mean of {len(args.predictions)} models -> {args.out}")


if __name__ == "__main__":
    run(main)
