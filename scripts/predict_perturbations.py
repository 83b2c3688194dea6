"""Predict the cells of held-out perturbations, with a finetuned model or a fitted baseline.

    python -m scripts.predict_perturbations \\
        --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
        --split results/split_perturbations/demo/simulation_1_0.75.tsv \\
        --controls results/pair_controls/demo/controls.tsv \\
        --model results/finetune_perturbation/scgpt_demo/checkpoint --name scgpt_demo \\
        --out results/predict_perturbations/demo/simulation_1_0.75/scgpt_demo.h5ad num_cells=100

--model is a folder of finetune_perturbation or a file of fit_baseline. Every predicted cell comes
from a control cell of the models' half; the other half is kept for scoring. Where the split keeps
no perturbation for testing, the training perturbations are predicted.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.eval import Prediction


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Prediction)
    made.add_argument("--cells", type=Path, required=True, help="converted screen")
    made.add_argument("--split", type=Path, required=True, help="table of split_perturbations")
    made.add_argument("--controls", type=Path, required=True, help="controls.tsv of pair_controls")
    made.add_argument(
        "--model", type=Path, required=True, help="checkpoint folder or baseline file"
    )
    made.add_argument("--name", required=True, help="what the summary calls the model")
    made.add_argument("--out", type=Path, required=True, help="h5ad of predicted cells to write")
    made.add_argument(
        "--devices", type=int, choices=[0, 1], default=0, help="1 for a GPU (default: 0, the CPU)"
    )
    args = parse(made, argv)

    from vcpipe.data.predictions import write_predictions
    from vcpipe.data.screen import open_screen
    from vcpipe.data.splits import read_controls, read_split

    screen = open_screen(args.cells)
    split, controls = read_split(args.split), read_controls(args.controls)
    if args.model.is_dir():
        from vcpipe.training.prediction import predictions

        cells, about = predictions(screen, split, controls, args.model, args.config, args.devices)
    else:
        from vcpipe.evaluation.prediction import predictions

        cells, about = predictions(screen, split, controls, args.model, args.config)
    about |= {"model": args.name, "dataset": screen.name, "split": args.split.stem}
    write_predictions(args.out, cells, screen.genes, about)
    print(f"wrote {args.out}", *about["notes"], sep="\n")


if __name__ == "__main__":
    run(main)
