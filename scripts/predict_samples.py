"""Write a few predictions of a finetuned model with their inputs, for verify_scgpt to make again.

    python -m scripts.predict_samples \\
        --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
        --split results/split_perturbations/demo/simulation_1_0.75.tsv \\
        --controls results/pair_controls/demo/controls.tsv \\
        --checkpoint results/finetune_perturbation/scgpt_demo/checkpoint \\
        --out results/predict_samples/scgpt_demo/samples.npz num_conditions=8

They are the model's own numbers on a CPU, before those below zero are set to it.
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.eval import Verification


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Verification)
    made.add_argument("--cells", type=Path, required=True, help="converted screen")
    made.add_argument("--split", type=Path, required=True, help="table of split_perturbations")
    made.add_argument("--controls", type=Path, required=True, help="controls.tsv of pair_controls")
    made.add_argument("--checkpoint", type=Path, required=True, help="finetuned folder")
    made.add_argument("--out", type=Path, required=True, help="npz to write")
    args = parse(made, argv)

    from vcpipe.data.screen import open_screen
    from vcpipe.data.splits import read_controls, read_split
    from vcpipe.training.samples import sample_predictions

    samples = sample_predictions(
        open_screen(args.cells),
        read_split(args.split),
        read_controls(args.controls),
        args.checkpoint,
        args.config,
    )
    samples.write(args.out)
    print(f"wrote {args.out}: {len(samples.control)} cells of {len(samples.genes)} genes")


if __name__ == "__main__":
    run(main)
