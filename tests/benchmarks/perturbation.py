"""Steps of finetuning and predictions beside scGPT's, which are read as in pretraining.py.

make bench NAME="step_perturbation step_perturbation_bf16 infer_18k" SCGPT=work/scgpt
"""

import sys
from pathlib import Path

from tests.benchmarks.measuring import Row, beside_scgpt

PROGRAMS = (sys.executable, "-W", "ignore", "-m", "tests.benchmarks.perturbation_programs")


def step_perturbation(folder: Path) -> list[Row]:
    """A whole step: batch, forward, backward, clipping and optimiser."""
    del folder
    return beside_scgpt(PROGRAMS, "step_perturbation", floor=1)


def step_perturbation_bf16(folder: Path) -> list[Row]:
    del folder
    return beside_scgpt(PROGRAMS, "step_perturbation_bf16", floor=1.5)


def infer_18k(folder: Path) -> list[Row]:
    """All genes of a cell in chunks as long as in training, beside all of them at once."""
    del folder
    return beside_scgpt(PROGRAMS, "infer_18k", floor=5)
