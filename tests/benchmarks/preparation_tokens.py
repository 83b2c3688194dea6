"""Binning beside scGPT's Preprocessor, and batches of tokens beside scModelForge's.

scgpt: .venvs/scgpt of make upstream-test, or the Python that SCGPT_PYTHON names. scModelForge is on
no package index: SCMODELFORGE names a checkout of github.com/EhsanRS/scModelForge, whose tokenizers
run in our own Python. Where one is missing its benchmarks say so and are left out.
"""

import os
import sys
from pathlib import Path

import numpy as np

from tests.benchmarks.measuring import PROJECT, Row, row, run
from tests.benchmarks.token_cells import write_cells

OURS = (sys.executable, "-m", "tests.benchmarks.our_tokens")
UNIT = "CPU ms per cell"


def bins(folder: Path, repeats: int = 3) -> list[Row]:
    """bin_18k and bin_3k as by default; _drawn: scGPT's own digits for its own draws."""
    python = Path(os.environ.get("SCGPT_PYTHON", PROJECT / ".venvs/scgpt/bin/python"))
    if not python.exists():
        print(f"bin_18k and bin_3k are left out: no {python} (make upstream-test builds it)")
        return []
    made = []
    for name, num_cells, num_genes, floor in [
        ("bin_18k", 1000, 18_080, 20),
        ("bin_3k", 5000, 3000, 10),
    ]:
        cells = folder / f"{name}.npz"
        detected = write_cells(cells, num_cells, num_genes, 0.45)
        print(f"{name}: {num_cells} cells of {detected:.0f} detected genes", flush=True)
        peer = (python, "-W", "ignore", "tests/benchmarks/scgpt_peer.py", cells)
        turns = [(run(*OURS, "bin", cells), run(*peer)) for _ in range(repeats)]
        ours = np.load(folder / f"{name}_ours.npz")["bins"]
        assert np.array_equal(ours, np.load(folder / f"{name}_scgpt.npz")["bins"])
        print(f"{name}: {len(ours):,} bins are the same", flush=True)
        version = f"scgpt {turns[0][1]['version']}"
        theirs = [per_cell(its) for _, its in turns]
        default = [per_cell(our) for our, _ in turns]
        drawn = [per_cell(our, "cpu_drawn") for our, _ in turns]
        made.append(row(name, default, theirs, UNIT, version, floor=floor))
        made.append(row(f"{name}_drawn", drawn, theirs, UNIT, version, floor=floor))
    return made


def tokens(folder: Path, num_cells: int = 1920, repeats: int = 3) -> list[Row]:
    """rank_tokens and binned_tokens: rows -> padded masked batches of 64 cells, 2,048 tokens."""
    checkout = os.environ.get("SCMODELFORGE")
    if not checkout:
        print("rank_tokens and binned_tokens are left out: SCMODELFORGE names no checkout")
        return []
    cells = folder / "tokens.npz"
    detected = write_cells(cells, num_cells, 20_000, 3155 / 20_000)
    print(f"tokens: {num_cells} cells of {detected:.0f} detected genes", flush=True)
    source = f"import sys, runpy; sys.path.insert(0, {f'{checkout}/src'!r}); sys.argv[:] = "
    made = []
    for name, floor, check in [("rank", 6, check_ranks), ("binned", 5, check_bins)]:
        program = ["tests/benchmarks/scmodelforge_peer.py", name, str(cells)]
        code = f"{source}{program}; runpy.run_path(sys.argv[0], run_name='__main__')"
        peer = (sys.executable, "-W", "ignore", "-c", code)
        turns = [(run(*OURS, name, cells), run(*peer)) for _ in range(repeats)]
        our, its = (np.load(folder / f"tokens_{who}_{name}.npz") for who in ("ours", "peer"))
        check(our, its)
        version = f"scModelForge {turns[0][1]['version']}"
        ours, theirs = ([per_cell(turn[who]) for turn in turns] for who in (0, 1))
        made.append(row(f"{name}_tokens", ours, theirs, UNIT, version, floor=floor))
    return made


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
