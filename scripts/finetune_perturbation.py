"""Finetune a pretrained folder to predict perturbed cells from control cells.

    python -m scripts.finetune_perturbation \\
        --cells results/convert_to_gears/demo/perturb_processed.h5ad \\
        --split results/split_perturbations/demo/simulation_1_0.75.tsv \\
        --controls results/pair_controls/demo/controls.tsv \\
        --pairs results/pair_controls/demo/pairs.npz \\
        --pretrained results/pretrain/demo_masked/checkpoint \\
        --config config/finetune/scgpt_demo.yaml \\
        --state results/.checkpoints/finetune_perturbation/scgpt_demo \\
        --out results/finetune_perturbation/scgpt_demo/checkpoint \\
        --metrics results/finetune_perturbation/scgpt_demo/metrics.csv optimizer.lr=5e-5

All weights under encoder., value_encoder. and transformer_encoder. are loaded by name, or the run
stops. GPUs, resuming and exit status 75 are as in scripts.pretrain.
"""

from pathlib import Path

from vcpipe.config.arguments import add_training_arguments, parse, parser, run
from vcpipe.config.finetune import Finetune


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Finetune)
    made.add_argument("--cells", type=Path, required=True, help="converted screen")
    made.add_argument("--split", type=Path, required=True, help="table of split_perturbations")
    made.add_argument("--controls", type=Path, required=True, help="controls.tsv of pair_controls")
    made.add_argument("--pairs", type=Path, required=True, help="pairs.npz of pair_controls")
    made.add_argument("--pretrained", type=Path, required=True, help="folder of a checkpoint")
    add_training_arguments(made)
    args = parse(made, argv)

    from vcpipe.data.pairing import read_pairs
    from vcpipe.data.screen import open_screen
    from vcpipe.data.splits import read_controls, read_split
    from vcpipe.provenance import code
    from vcpipe.training.checkpoints import check_sha256, read_folder
    from vcpipe.training.distributed import joined
    from vcpipe.training.finetuning import finetune

    with joined(args.devices) as process:
        check_sha256(args.pretrained, args.config.pretrained_sha256)
        screen = open_screen(args.cells)
        finetune(
            screen,
            read_split(args.split),
            read_controls(args.controls),
            read_pairs(args.pairs, screen),
            read_folder(args.pretrained),
            args.config,
            code("finetune_perturbation"),
            process,
            args.state,
            args.out,
            args.metrics,
            args.threads,
        )


if __name__ == "__main__":
    run(main)
