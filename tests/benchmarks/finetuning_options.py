"""What options of finetuning are worth: the runs of a configuration and the baselines, as a table.

    python -m tests.benchmarks.finetuning_options config/comparisons/demo.yaml results/comparison
    python -m tests.benchmarks.finetuning_options config/comparisons/datlinger.yaml results/jurkat

The programs of the rules are called in turn, in one process, with what the rules would give them:
Snakemake starts a process for each of them, which for models of this size takes most of the time.
"""

import sys
import time
from pathlib import Path

import pandas as pd

from scripts import (
    average_predictions,
    build_vocabulary,
    convert_to_gears,
    finetune_perturbation,
    fit_baseline,
    fit_preprocessing,
    pair_controls,
    predict_perturbations,
    prepare_cells,
    pretrain,
    score_perturbations,
    simulate_screen,
    split_perturbations,
)
from vcpipe.config.pipeline import Pipeline
from vcpipe.config.reading import read_pipeline, settings
from vcpipe.config.section import Section

METRICS = ["pearson_delta_from_mean", "discrimination_l1", "pearson_delta", "mse_de", "mse"]


def step(main, config: Section | None, **options) -> None:
    """Call a program, unless what it writes last is there already."""
    *_, out = options.values()
    if Path(out).exists():
        return
    arguments = []
    for name, value in options.items():
        arguments += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    main([*arguments, *(["--config", settings(config)] if config else [])])


def prepared(pipeline: Pipeline, folder: Path) -> dict[str, Path]:
    """From raw counts to a pretrained encoder; the files that finetuning takes."""
    (name, dataset), (split_name, split) = (
        next(iter(section.items())) for section in (pipeline.datasets, pipeline.splits)
    )
    raw = Path(dataset.path or folder / "screen.h5ad")
    if dataset.simulate:
        its = {"truth": folder / "truth.h5ad", "network": folder / "network.tsv", "out": raw}
        step(simulate_screen.main, dataset.simulate, **its)
    conversion = convert_to_gears.Conversion(
        dataset=dataset.columns(), normalisation=pipeline.gears.normalisation
    )
    cells = folder / "perturb_processed.h5ad"
    report = folder / "conversion.json"
    step(convert_to_gears.main, conversion, cells=raw, name=name, report=report, out=cells)
    table, controls, pairs = (
        folder / each for each in (f"{split_name}.tsv", "controls.tsv", "pairs.npz")
    )
    step(
        *(split_perturbations.main, split),
        **{"cells": cells, "pickle": folder / "split.pkl", "subgroup": folder / "subgroup.pkl"},
        table=table,
    )
    step(pair_controls.main, pipeline.gears.pairing, cells=cells, controls=controls, pairs=pairs)
    (corpus,), (run,) = pipeline.preprocess.values(), pipeline.pretrain.values()
    screens = {"screens": cells, "split": table, "controls": controls}
    vocabulary = {"vocabulary": folder / "vocabulary"}
    step(build_vocabulary.main, corpus.vocabulary, screens=cells, out=vocabulary["vocabulary"])
    fitted = {"fitted": folder / "fitted"}
    its = corpus.fitting()
    step(fit_preprocessing.main, its, **screens, **vocabulary, out=fitted["fitted"])
    store = folder / "store"
    step(prepare_cells.main, corpus.store, **screens, **vocabulary, **fitted, out=store)
    step(
        *(pretrain.main, run),
        **{"store": store, "state": folder / "state/encoder", "metrics": folder / "encoder.csv"},
        **vocabulary | fitted,
        out=folder / "encoder",
    )
    return {"cells": cells, "split": table, "controls": controls}


def compare(config: Path, folder: Path) -> None:
    """Train, predict and score all runs, those with the first seed first."""
    pipeline, _ = read_pipeline(files=[config])
    ensembles, pipeline = pipeline.ensembles(), pipeline.with_all_runs()
    folder.mkdir(parents=True, exist_ok=True)
    held_out = prepared(pipeline, folder)

    def scored(name: str, model: Path | None) -> None:
        file = folder / f"predicted/{name}.h5ad"
        if model is None:
            members = [folder / f"predicted/{each}.h5ad" for each in ensembles[name]]
            step(average_predictions.main, None, predictions=members, name=name, out=file)
        else:
            its = {"model": model, "name": name, "out": file}
            step(predict_perturbations.main, pipeline.eval.prediction, **held_out, **its)
        out = folder / f"scores/{name}"
        step(score_perturbations.main, pipeline.eval.scoring, **held_out, predictions=file, out=out)

    for name in type(pipeline.eval.baselines).model_fields:
        model, baselines = folder / f"{name}.npz", pipeline.eval.baselines
        step(fit_baseline.main, baselines, **held_out, baseline=name, out=model)
        scored(name, model)
    for name, run in sorted(pipeline.finetune.items(), key=lambda its: its[1].training.seed):
        before = time.process_time()
        step(
            *(finetune_perturbation.main, run),
            **held_out | {"pairs": folder / "pairs.npz", "pretrained": folder / "encoder"},
            **{"state": folder / f"state/{name}", "metrics": folder / f"{name}.csv"},
            out=folder / name,
        )
        print(f"{name}: {time.process_time() - before:.0f} CPU s", flush=True)
        scored(name, folder / name)
    for name in ensembles:
        scored(name, None)


def table(folder: Path) -> pd.DataFrame:
    """The mean score of whatever is scored so far."""
    found = {
        path.parent.name: pd.read_csv(path).groupby("metric")["value"].mean()[METRICS]
        for path in sorted(folder.glob("scores/*/per_perturbation.csv"))
    }
    return pd.DataFrame(found).T


if __name__ == "__main__":
    compare(*map(Path, sys.argv[1:3]))
    print(table(Path(sys.argv[2])).to_markdown(floatfmt=".3f"))
