"""Steps of pretraining beside scGPT's, and beside what we would do without a rewrite of ours.

scgpt 0.2.4 runs in our own Python, without what it depends on: SCGPT names a folder that holds it.
Its models and its collator are read as they are published; the package's __init__ isn't run, for it
imports torchtext, which current versions of torch no longer have.

    pip install --no-deps --target work/scgpt scgpt==0.2.4
    make bench NAME="heads collate_pretrain step_pretrain" SCGPT=work/scgpt

Where it is missing its benchmarks say so and are left out. Results are the same before time begins.
"""

import sys
from pathlib import Path

from tests.benchmarks.measuring import Row, beside_scgpt, checkout_of, row, run

PROGRAMS = (sys.executable, "-W", "ignore", "-m", "tests.benchmarks.pretraining_programs")
UNIT = "CPU ms"


def packed_vs_padded(folder: Path) -> list[Row]:
    """Time of packed tokens beside that of padded ones, of which only the useful share counts."""
    del folder
    found = run(*PROGRAMS, "packed_vs_padded")
    its = [time / found["flop_ratio"] for time in found["peer"]]
    unit = f"CPU ms; padded ÷ {found['flop_ratio']:.2f}, the ratio of FLOPs"
    return [row("packed_vs_padded", found["ours"], its, unit, "padded", floor=0.95)]


def masked_head(folder: Path) -> list[Row]:
    """A head of 25,000 genes on the 15 % of tokens that are hidden, beside all of them."""
    del folder
    found = run(*PROGRAMS, "masked_head")
    return [row("masked_head", found["ours"], found["peer"], UNIT, "all tokens", floor=5)]


def heads(folder: Path) -> list[Row]:
    """scGPT's value encoder and MVC decoder, forward and backward, then each alone."""
    del folder
    scgpt = checkout_of("SCGPT", "heads")
    if not scgpt:
        return []
    parts = {name: run(*PROGRAMS, f"heads_{name}", scgpt) for name in ("values", "mvc", "decoder")}
    ours, theirs = (
        [one + other for one, other in zip(parts["values"][who], parts["mvc"][who], strict=True)]
        for who in ("ours", "peer")
    )
    version, floors = parts["mvc"]["version"], {"values": 8, "mvc": 8, "decoder": 2}
    return [
        row("heads", ours, theirs, UNIT, version, floor=8),
        *(
            row(f"heads_{name}", its["ours"], its["peer"], UNIT, version, floor=floors[name])
            for name, its in parts.items()
        ),
    ]


def collate_pretrain(folder: Path) -> list[Row]:
    """Counts in memory -> binned, sampled, masked and padded batches of 64 cells."""
    del folder
    return beside_scgpt(PROGRAMS, "collate_pretrain", floor=8)


def step_pretrain(folder: Path) -> list[Row]:
    """A whole step: batch, forward, backward, clipping and optimiser; hidden values and MVC."""
    del folder
    return beside_scgpt(PROGRAMS, "step_pretrain", floor=1.3)
