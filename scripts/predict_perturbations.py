"""Predict the cells of held-out or listed perturbations, with a finetuned model or a baseline.

    python -m scripts.predict_perturbations \\
        --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
        --split results/split_perturbations/demo/simulation_1_0.75.tsv \\
        --controls results/pair_controls/demo/controls.tsv \\
        --model results/finetune_perturbation/scgpt_demo/checkpoint --name scgpt_demo \\
        --out results/predict_perturbations/demo/simulation_1_0.75/scgpt_demo.h5ad num_cells=100

--model is a folder of finetune_perturbation or a file of fit_baseline. Every predicted cell comes
from a control cell of the models' half; the other half is kept for scoring. Where the split keeps
no perturbation for testing, the training perturbations are predicted.

--targets is a table of other perturbations, A or A+B, with the number of cells of each: columns
target_gene, n_cells and, for library_sizes=listed, median_umi_per_cell. The model need not have
seen them; their genes must be genes of the model. With counts=true the file has raw counts, too.
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
    made.add_argument("--targets", type=Path, help="list of targets (default: those of the split)")
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
    held_out = read_split(args.split), read_controls(args.controls)
    with_what = {"path": args.model, "config": args.config, "targets": args.targets}
    if args.model.is_dir():
        from vcpipe.training.prediction import predictions

        cells, about = predictions(screen, *held_out, **with_what, devices=args.devices)
    else:
        from vcpipe.evaluation.prediction import predictions

        cells, about = predictions(screen, *held_out, **with_what)
    about |= {"model": args.name, "dataset": screen.name, "split": args.split.stem}
    write_predictions(args.out, cells, screen.genes, about)
    print(f"wrote {args.out}", *about["notes"], sep="\n")


if __name__ == "__main__":
    run(main)
