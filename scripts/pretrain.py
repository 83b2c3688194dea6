"""Pretrain an encoder on a store of cells; write it as a scGPT folder.

    python -m scripts.pretrain --store results/prepare_cells/demo \\
        --vocabulary results/build_vocabulary/demo --fitted results/fit_preprocessing/demo \\
        --config config/pretrain/demo_masked.yaml \\
        --state results/.checkpoints/pretrain/demo --out results/pretrain/demo/checkpoint \\
        --metrics results/pretrain/demo/metrics.csv optimizer.lr=3e-4

On GPUs: torchrun --nproc-per-node=2 -m scripts.pretrain --devices 2 ...
A run that was stopped (SIGTERM, SIGUSR1, SIGINT, the end of a Slurm job) or killed goes on from
--state when it is started again with the same settings, data and code; unless it was killed, it
exits with status 75.
"""

from pathlib import Path

from vcpipe.config.arguments import add_training_arguments, parse, parser, run
from vcpipe.config.pretrain import Pretrain


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Pretrain)
    made.add_argument("--store", type=Path, required=True, help="folder of prepare_cells")
    made.add_argument("--vocabulary", type=Path, required=True, help="folder of build_vocabulary")
    made.add_argument("--fitted", type=Path, required=True, help="folder of fit_preprocessing")
    add_training_arguments(made)
    args = parse(made, argv)

    from vcpipe.data.cell_store.reading import open_store
    from vcpipe.data.corpus_names import read_names
    from vcpipe.data.preprocessing_record import read_record
    from vcpipe.provenance import code
    from vcpipe.training.distributed import joined
    from vcpipe.training.pretraining import pretrain

    with joined(args.devices) as process:
        pretrain(
            open_store(args.store),
            read_names(args.vocabulary),
            read_record(args.fitted / "record.json"),
            args.config,
            code("pretrain"),
            process,
            args.state,
            args.out,
            args.metrics,
            args.threads,
        )


if __name__ == "__main__":
    run(main)
