"""Made-up runs of the loading experiment."""

import numpy as np
import pandas as pd

from vcpipe.config.loader import TASKS, Loader
from vcpipe.evaluation.loader_summary import ENTROPIES, SeedResult

QUALITY = {"streaming": 0.1, "block_shuffling": 0.4, "random_sampling": 0.6, "full_shuffle": 0.61}


def settings_of(seed: int = 0) -> dict:
    """Of a run: of each seed apart, and in a folder of its own."""
    config = Loader(data={"h5ad_dir": f"folder {seed}"}, training={"seeds": [seed]})
    return config.model_dump(mode="json")


def result(strategy: str, seed: int, **changes) -> SeedResult:
    f1 = QUALITY[strategy] + 0.01 * seed

    def task(name: str) -> dict:
        return {
            "scores": {"macro_f1": f1, "accuracy": f1 + 0.1, "weighted_f1": f1 + 0.05},
            "chance": {"macro_f1": 0.05, "accuracy": 0.05, "weighted_f1": 0.05},
            "majority": {"macro_f1": 0.02, "accuracy": 0.2, "weighted_f1": 0.06},
            "num_classes": 20,
            "num_test_classes": 18,
            "unknown_labels": [],
            "num_unknown_cells": 0,
        }

    about = {
        "strategy": strategy,
        "backend": "store" if strategy == "full_shuffle" else "h5ad",
        "block_size": {"block_shuffling": 16, "random_sampling": 1}.get(strategy),
        "fetch_factor": 4,
        "batch_size": 64,
        "input": "counts",
        "seed": seed,
        "threads": 1,
        "cache": "warm",
        "load_average": 0.5,
        "num_train_cells": 1000,
        "num_test_cells": 300,
        "num_genes": 50,
        "epochs": 1,
        "cells_per_second": 1e4 / (1 + QUALITY[strategy]) + seed,
        "wait_share": 0.2,
        "seconds": 3.0 + seed,
        "cpu_seconds": 4.0,
        "peak_memory_mb": 500.0,
        "bytes_read": 10**6,
        "disk_bytes_read": None,
        "entropy": dict.fromkeys(ENTROPIES, QUALITY[strategy] * 4),
        "entropy_of_chance": dict.fromkeys(ENTROPIES, 2.5),
        "tasks": {name: task(name) for name in TASKS},
        "config": settings_of(seed),
        "config_digest": "c",
        "data_digest": "d",
        "test_digest": "t",
        "code_version": "v",
    }
    steps = np.arange(10, 60, 10)
    curves = pd.DataFrame(
        [(step, "train", name, 5 / step) for step in steps for name in TASKS]
        + [(50, "val", name, 0.2) for name in TASKS],
        columns=["step", "set", "task", "loss"],
    )
    metrics = pd.DataFrame({"step": steps, "train_loss": 20 / steps})
    classes = pd.DataFrame({"task": ["drug"], "class": ["NA"], "f1": [f1]})
    return SeedResult({**about, **changes}, metrics, curves, classes)


def results(num_seeds: int = 3) -> list[SeedResult]:
    return [result(strategy, seed) for strategy in QUALITY for seed in range(num_seeds)]
