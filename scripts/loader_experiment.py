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
from functools import partial
from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.loader import STRATEGIES, Loader
from vcpipe.errors import InputError

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

    import pandas as pd

    from vcpipe.data.plates import digest_of, find_plates, open_plates, read_label_maps
    from vcpipe.evaluation.classification import score_tasks
    from vcpipe.evaluation.loader_summary import SeedResult, write_result
    from vcpipe.files import digest, write_json, writing
    from vcpipe.provenance import code
    from vcpipe.training.distributed import joined
    from vcpipe.training.loader_experiment import (
        open_experiment,
        open_train,
        run_seed,
        train_files,
    )
    from vcpipe.training.loop import COLUMNS

    config, data = args.config, args.config.data
    folder = args.plates or (Path(data.h5ad_dir) if data.h5ad_dir else None)
    if folder is None:
        raise InputError("data.simulate: name the folder of simulate_plates with --plates.")
    found = find_plates(folder, [*data.train_plates, *data.val_plates, *data.test_plates])
    train, val, test = (
        [found[number] for number in numbers]
        for numbers in (data.train_plates, data.val_plates, data.test_plates)
    )
    backend = config.backend_of(args.strategy)
    test_reader = open_plates(test, data.max_test_cells)
    files = train_files(backend, train, args.store, args.collection)
    maps = read_label_maps(data.label_dir)
    experiment = open_experiment(
        partial(open_train, backend, files, data.max_train_cells, test_reader.genes),
        open_plates(val, data.max_val_cells) if val else None,
        test_reader,
        maps,
        files,
    )
    digests = {
        "data_digest": digest([digest_of(train), data.max_train_cells, digest_of(test)]),
        "test_digest": digest([digest_of(test), data.max_test_cells]),
        "code": code("loader_experiment"),
    }
    with joined(0) as process, writing(args.out) as out:
        out.mkdir()
        write_json(out / "labels.json", experiment.classes)
        for seed in config.training.seeds:
            trained = run_seed(
                experiment,
                config,
                args.strategy,
                seed,
                args.threads or config.scdataset.num_workers,
                process,
                lambda text, seed=seed: print(f"seed {seed}: {text}", flush=True),
            )
            classes, tasks = score_tasks(
                experiment.classes,
                experiment.unknown,
                experiment.train.classes_CT,
                experiment.test.classes_CT,
                trained.predicted_CT,
            )
            result = SeedResult(
                {**trained.about, **digests, "tasks": tasks},
                pd.DataFrame(trained.metrics, columns=COLUMNS),
                pd.DataFrame(trained.curves, columns=["step", "set", "task", "loss"]),
                classes,
            )
            write_result(out / f"seed_{seed}", result)
            shown = ", ".join(
                f"{task} {its['scores']['macro_f1']:.3f}" for task, its in tasks.items()
            )
            speed = f"{trained.about['cells_per_second']:,.0f} cells/s"
            print(f"{args.strategy}, seed {seed}: macro-F1 {shown}; {speed}", flush=True)
    print(f"{len(config.training.seeds)} runs -> {args.out}")


if __name__ == "__main__":
    run(main)
