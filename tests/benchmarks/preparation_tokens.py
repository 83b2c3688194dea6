"""Binning beside scGPT's Preprocessor, and batches of tokens beside scModelForge's.

scgpt: .venvs/scgpt of make upstream-test (6.5 GB), or the Python that SCGPT_PYTHON names. Any that
can read its preprocess.py will do, which is all that runs:

    python3.11 -m venv work/scgpt
    work/scgpt/bin/pip install numpy==1.26.4 scanpy==1.11.5 anndata==0.12.19 torch
    work/scgpt/bin/pip install --no-deps scgpt==0.2.4
    make bench NAME=bin_18k SCGPT_PYTHON=work/scgpt/bin/python

scModelForge is on no package index: SCMODELFORGE names a checkout, and its tokenizers run in our
own Python.

    git clone https://github.com/EhsanRS/scModelForge work/scModelForge
    make bench NAME="rank_tokens binned_tokens" SCMODELFORGE=work/scModelForge

Where one is missing its benchmarks say so and are left out.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.benchmarks.measuring import PROJECT, Row, checkout_of, revision, row, run
from tests.benchmarks.token_cells import write_cells

OURS = (sys.executable, "-m", "tests.benchmarks.our_tokens")
UNIT = "CPU ms per cell"


def bin_18k(folder: Path) -> list[Row]:
    """Whole transcriptomes."""
    return bins(folder, "bin_18k", 1000, 18_080, floor=20)


def bin_3k(folder: Path) -> list[Row]:
    """As many genes as are chosen for variance."""
    return bins(folder, "bin_3k", 5000, 3000, floor=10)


def bins(
    folder: Path, name: str, num_cells: int, num_genes: int, *, floor: float, repeats: int = 5
) -> list[Row]:
    """NAME: as by default; NAME_drawn: scGPT's own digits for its own draws."""
    python = Path(os.environ.get("SCGPT_PYTHON", PROJECT / ".venvs/scgpt/bin/python")).absolute()
    if not python.exists():
        print(f"{name} is left out: there is no {python}; set SCGPT_PYTHON, or make upstream-test")
        return []
    cells = folder / f"{name}.npz"
    detected = write_cells(cells, num_cells, num_genes, 0.45)
    print(f"{name}: {num_cells} cells of {detected:.0f} detected genes", flush=True)
    peer = (python, "-W", "ignore", "tests/benchmarks/scgpt_peer.py", cells)
    turns = [(run(*OURS, "bin", cells), run(*peer)) for _ in range(repeats)]
    ours = np.load(folder / f"{name}_ours.npz")["bins"]
    assert np.array_equal(ours, np.load(folder / f"{name}_scgpt.npz")["bins"])
    print(f"{name}: {len(ours):,} bins are the same", flush=True)
    version = turns[0][1]["version"]
    theirs = [per_cell(its) for _, its in turns]
    default = [per_cell(our) for our, _ in turns]
    drawn = [per_cell(our, "cpu_drawn") for our, _ in turns]
    return [
        row(name, default, theirs, UNIT, version, floor=floor),
        row(f"{name}_drawn", drawn, theirs, UNIT, version, floor=floor),
    ]


def rank_tokens(folder: Path) -> list[Row]:
    """Genes by expression."""
    return tokens(folder, "rank", check_ranks, floor=6)


def binned_tokens(folder: Path) -> list[Row]:
    """Genes with bins of equal width."""
    return tokens(folder, "binned", check_bins, floor=5)


def tokens(
    folder: Path,
    name: str,
    check: Callable,
    *,
    floor: float,
    num_cells: int = 1920,
    repeats: int = 5,
) -> list[Row]:
    """Rows -> padded masked batches of 64 cells, 2,048 tokens."""
    checkout = checkout_of("SCMODELFORGE", f"{name}_tokens")
    if not checkout:
        return []
    cells = folder / "tokens.npz"
    detected = write_cells(cells, num_cells, 20_000, 3155 / 20_000)
    print(f"{name}_tokens: {num_cells} cells of {detected:.0f} detected genes", flush=True)
    source = f"import sys, runpy; sys.path.insert(0, {f'{checkout}/src'!r}); sys.argv[:] = "
    program = ["tests/benchmarks/scmodelforge_peer.py", name, str(cells)]
    code = f"{source}{program}; runpy.run_path(sys.argv[0], run_name='__main__')"
    peer = (sys.executable, "-W", "ignore", "-c", code)
    turns = [(run(*OURS, name, cells), run(*peer)) for _ in range(repeats)]
    our, its = (np.load(folder / f"tokens_{who}_{name}.npz") for who in ("ours", "peer"))
    check(our, its)
    version = f"scModelForge {turns[0][1]['version']}, {revision(checkout)}"
    ours, theirs = ([per_cell(turn[who]) for turn in turns] for who in (0, 1))
    return [row(f"{name}_tokens", ours, theirs, UNIT, version, floor=floor)]


def per_cell(found: dict, key: str = "cpu") -> float:
    return 1000 * found[key] / found["num_cells"]


def check_ranks(our, its) -> None:
    """Values by rank are the same, and so are the genes above the ties that are cut through."""
    assert np.array_equal(our["real"], its["attention_mask"].astype(bool))
    np.testing.assert_allclose(our["values"], its["values"], rtol=2e-6)
    compared = 0
    for cell, values in enumerate(its["values"]):
        above = values > values[-1] * (1 + 1e-5)
        assert set(our["genes"][cell, above]) == set(its["input_ids"][cell, above])
        compared += above.sum()
    print(f"rank_tokens: values the same, and the {compared:,} genes above the cut")


def check_bins(our, its) -> None:
    """Genes are the same, and so are bins but for values within a rounding of an edge."""
    assert np.array_equal(our["genes"], its["input_ids"])
    differs = our["values"] != its["bin_ids"]
    edges = np.linspace(0, 10, 52)
    values = its["values"][differs].astype(float)
    assert all(abs(edges - value).min() < 1e-5 for value in values)
    print(f"binned_tokens: {differs.sum()} of {differs.size:,} bins differ, all at an edge")
