"""Train a linear classifier under one strategy of loading, a run for each seed, and measure both.

    python -m scripts.loader_experiment --strategy streaming --config config/loader/demo.yaml \\
        --plates results/simulate_plates/plates --out results/loader_experiment/streaming \\
        training.num_epochs=2 data.max_train_cells=4000

--plates replaces data.h5ad_dir. full_shuffle, and backend: store, need --store (shuffle_plates),
backend: zarr needs --collection (collect_plates). Strategies also answer to the names in
scDataset's README: random, weighted_block, weighted_true.

labels.json            classes of each task, those of the training cells
seed_N/scores.json     what was run, what it took, how well cells of the test plates are classified
seed_N/classes.tsv     F1 of each class; a label that no training cell has counts as never found
seed_N/curves.csv      loss of each task by update
seed_N/metrics.csv     loss and learning rate by update, val_loss by epoch
"""

import argparse
from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.loader import STRATEGIES, Loader

README_NAMES = {
    "random": "random_sampling",
    "weighted_block": "block_weighted",
    "weighted_true": "true_weighted",
}


def strategy(name: str) -> str:
    known = README_NAMES.get(name, name)
    if known not in STRATEGIES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(STRATEGIES)}")
    return known


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Loader)
    made.add_argument("--strategy", type=strategy, required=True, help="one of the strategies")
    made.add_argument("--plates", type=Path, help="folder of h5ad files (data.h5ad_dir)")
    made.add_argument("--store", type=Path, help="folder of shuffle_plates")
    made.add_argument("--collection", type=Path, help="folder of collect_plates")
    made.add_argument("--threads", type=int, help="that read (default: scdataset.num_workers)")
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parse(made, argv)

    from vcpipe.evaluation.classification import score_tasks
    from vcpipe.evaluation.loader_summary import seed_result, write_result
    from vcpipe.files import write_json, writing
    from vcpipe.provenance import code, code_version
    from vcpipe.training.distributed import joined
    from vcpipe.training.loader_experiment import open_experiment, run_seed

    name, threads = args.strategy, args.threads or args.config.scdataset.num_workers
    its = open_experiment(args.config, name, args.plates, args.store, args.collection)
    made_by = {"code": code("loader_experiment"), "code_version": code_version()}
    with joined(0) as process, writing(args.out) as folder:
        folder.mkdir()
        write_json(folder / "labels.json", its.classes)
        for seed in args.config.training.seeds:
            trained = run_seed(its, args.config, name, seed, threads, process)
            cells = (its.train.classes_CT, its.test.classes_CT, trained.predicted_CT)
            classes, tasks = score_tasks(its.classes, its.unknown, *cells)
            about = {**trained.about, **made_by, "tasks": tasks}
            result = seed_result(about, trained.metrics, trained.curves, classes)
            write_result(folder / f"seed_{seed}", result)
            print(result.in_words(), flush=True)
    print(f"{len(args.config.training.seeds)} runs -> {args.out}")


if __name__ == "__main__":
    run(main)
