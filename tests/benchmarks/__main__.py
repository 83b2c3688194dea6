"""Print and keep what we take beside our peers: make bench, or make bench NAME=convert.

Writes results/bench/summary.csv; rows of benchmarks that are not run stay as they are. Peers that
make bench does not install are named by SCGPT_PYTHON, SCGPT, SCMODELFORGE and EPIFOUNDATION (see
preparation_tokens.py, pretraining.py and preparation_pairs.py); a benchmark without its peer says
so, and the others go on.
"""

import argparse
import dataclasses
from pathlib import Path

import pandas as pd

from tests.benchmarks import finetuning_batches
from tests.benchmarks.conversion import conversion
from tests.benchmarks.engine import engine
from tests.benchmarks.full_size import full_size
from tests.benchmarks.loading import loading
from tests.benchmarks.measuring import Row
from tests.benchmarks.perturbation import infer_18k, step_perturbation, step_perturbation_bf16
from tests.benchmarks.prediction import prediction
from tests.benchmarks.preparation_pairs import paired, panel_views
from tests.benchmarks.preparation_store import preparation_store
from tests.benchmarks.preparation_tokens import bin_3k, bin_18k, binned_tokens, rank_tokens
from tests.benchmarks.pretraining import (
    collate_pretrain,
    heads,
    masked_head,
    packed_vs_padded,
    step_pretrain,
)
from tests.benchmarks.view_batches import collate_views

SUMMARY = Path("results/bench/summary.csv")
FOLDER = Path("results/bench/work")

# Benchmarks that share their runs are made together.
TOGETHER = {
    conversion: ["convert", "convert_with_graphs", "convert_memory", "start_up", "start_up_memory"],
    bin_18k: ["bin_18k", "bin_18k_drawn"],
    bin_3k: ["bin_3k", "bin_3k_drawn"],
    rank_tokens: ["rank_tokens"],
    binned_tokens: ["binned_tokens"],
    paired: ["paired_batches", "paired_batches_padded", "paired_batches_store"],
    panel_views: ["panel_views"],
    collate_views: ["collate_views"],
    preparation_store: ["prepare_write", "prepare_write_memory", "prepare_write_size"],
    loading: [
        *("load_random", "load_block", "load_annloader", "load_random_cold", "load_block_cold"),
        *("load_tokens", "load_tokens_cold", "load_memory", "load_threads"),
    ],
    packed_vs_padded: ["packed_vs_padded"],
    masked_head: ["masked_head"],
    heads: ["heads", "heads_values", "heads_mvc", "heads_decoder"],
    collate_pretrain: ["collate_pretrain"],
    step_pretrain: ["step_pretrain"],
    step_perturbation: ["step_perturbation"],
    step_perturbation_bf16: ["step_perturbation_bf16"],
    infer_18k: ["infer_18k"],
    engine: ["engine_overhead", "checkpoint_blocking"],
    finetuning_batches.batches: [
        *("perturbation_batch", "perturbation_batch_held", "perturbation_batch_memory"),
    ],
    finetuning_batches.start: ["start_up_finetune", "start_up_finetune_memory"],
    prediction: ["predict_memory"],
    full_size: ["full_size"],
}
# An hour of work and 60 GB of disk: only when asked for.
ON_REQUEST = [full_size]


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("names", nargs="*", help="benchmarks; none: all but full_size")
    names = made.parse_args().names
    wanted = [
        function
        for function, its in TOGETHER.items()
        if set(names) & set(its) or (not names and function not in ON_REQUEST)
    ]
    known = {name for its in TOGETHER.values() for name in its}
    unknown = set(names) - known
    if unknown:
        made.error(f"no benchmark {sorted(unknown)}; there are {sorted(known)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for function in wanted:
        if rows := function(FOLDER):
            keep(rows)
    if SUMMARY.exists():
        print(pd.read_csv(SUMMARY).to_markdown(index=False, floatfmt=".3g"))


def keep(rows: list[Row]) -> None:
    """Put rows into the summary, in place of former ones of the same benchmarks."""
    found = pd.DataFrame([dataclasses.asdict(each) for each in rows])
    if SUMMARY.exists():
        former = pd.read_csv(SUMMARY)
        found = pd.concat([former[~former["benchmark"].isin(found["benchmark"])], found])
    found.to_csv(SUMMARY, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
