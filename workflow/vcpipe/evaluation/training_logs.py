"""The metrics.csv that training runs write."""

from pathlib import Path

import pandas as pd

from vcpipe.errors import InputError, listed
from vcpipe.files import existing


def read_logs(paths: list[Path]) -> dict[str, pd.DataFrame]:
    """Read logs by run: results/pretrain/rna/metrics.csv becomes "pretrain/rna"."""
    logs = {}
    for path in map(Path, paths):
        name = "/".join(path.absolute().parent.parts[-2:])
        log = pd.read_csv(existing(path, "the metrics.csv of a training run"))
        missing = [
            column for column in ("step", "lr", "train_loss", "val_loss") if column not in log
        ]
        if missing:
            raise InputError(
                f"{path} has no column {listed(missing)}; expected the metrics.csv that "
                "pretrain and finetune_perturbation write."
            )
        if name in logs:
            raise InputError(f"{path} is the second log of {name}; give one for each run.")
        logs[name] = log
    return logs
