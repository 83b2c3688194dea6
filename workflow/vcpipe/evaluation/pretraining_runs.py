"""Finished pretraining runs side by side: what was learned, by how large a model, how fast."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vcpipe.errors import InputError
from vcpipe.files import existing, read_json

# What pretraining says in run.log.
SIZES = re.compile(r"^([\d,]+) cells, ([\d,]+) for val_loss, ([\d,]+) weights$", re.MULTILINE)
SPEED = re.compile(r"^epoch \d+/\d+: .*?([\d,]+) cells/s", re.MULTILINE)


@dataclass(frozen=True)
class PretrainingRun:
    name: str
    settings: dict  # of pretrain.<run>
    num_weights: int
    num_cells: int
    num_val_cells: int
    cells_per_second: float
    log: pd.DataFrame  # metrics.csv


def read_run(folder: Path, log: pd.DataFrame) -> PretrainingRun:
    """Read results/pretrain/<run>/checkpoint, beside its metrics."""
    what = "a folder that pretrain wrote"
    about = read_json(existing(folder, what) / "args.json", what).get("vcpipe", {})
    text = existing(folder / "run.log", what).read_text()
    sizes, speeds = SIZES.findall(text), [_number(its) for its in SPEED.findall(text)]
    if "config" not in about or not sizes or not speeds:
        raise InputError(
            f"{folder} does not say what it learned, from how many cells and how fast (args.json, "
            f"run.log); expected {what}. Train it anew, or leave it out."
        )
    num_cells, num_val_cells, num_weights = map(_number, sizes[-1])
    # What is compiled is compiled in the first epoch.
    usual = pd.Series(speeds[1:] or speeds).median()
    return PretrainingRun(
        folder.absolute().parent.name,
        about["config"],
        num_weights,
        num_cells,
        num_val_cells,
        usual,
        log,
    )


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def comparison(runs: list[PretrainingRun]) -> pd.DataFrame:
    """A row for each run; losses are those of its own objective, as logged."""
    if not runs:
        raise InputError("There is no run to compare; expected some under pretrain.")
    return pd.DataFrame([_row(run) for run in sorted(runs, key=lambda run: run.name)])


def _row(run: PretrainingRun) -> dict[str, object]:
    log, size = run.log, run.settings["model"]
    # Rows with a rate are batches, others with a training loss sum up an epoch.
    batches, epochs = log[log["lr"].notna()], log[log["lr"].isna() & log["train_loss"].notna()]
    train = pd.concat([batches, epochs])["train_loss"].dropna()
    val = log["val_loss"].dropna()
    return {
        "run": run.name,
        "objective": run.settings["objective"],
        "corpus": run.settings["corpus"],
        "num_layers": size["num_layers"],
        "hidden_dim": size["hidden_dim"],
        "parameters": run.num_weights,
        "cells": run.num_cells,
        "val_cells": run.num_val_cells,
        "epochs": len(epochs),
        "steps": int(log["step"].max()),
        "first_train_loss": train.iloc[0],
        "last_train_loss": train.iloc[-1],
        "first_val_loss": val.iloc[0] if len(val) else float("nan"),
        "best_val_loss": val.min(),  # NaN without any
        "cells_per_second": run.cells_per_second,
    }


def curves(runs: list[PretrainingRun]) -> dict[str, pd.DataFrame]:
    """The logs by a title that says what was learned."""
    return {f"{run.name}: {run.settings['objective']}": run.log for run in runs}
