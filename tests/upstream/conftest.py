"""Packages that cannot be installed beside ours run in Pythons of their own."""

import os
import subprocess
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from scripts import convert_to_gears, pair_controls, simulate_screen
from tests.upstream.scgpt_alone import imported
from vcpipe.data.pairing import NOBODY, read_pairs

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
BUILT = PROJECT / ".venvs"
# Nothing listens there: who asks for the network is refused at once.
OFFLINE = dict.fromkeys(
    ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"
)


@pytest.fixture(scope="session")
def run_gears() -> Callable[..., subprocess.CompletedProcess]:
    """Run a program of this folder there: run_gears("train_gears.py", path), or with input=text."""
    return runner("gears")


@pytest.fixture(scope="session")
def run_scgpt() -> Callable[..., subprocess.CompletedProcess]:
    return runner("scgpt")


def python_of(package: str) -> Path:
    given = f"{package.upper()}_PYTHON"
    python = Path(os.environ.get(given, BUILT / package / "bin/python"))
    # A path that somebody gave is not to be skipped over.
    if not python.exists() and given not in os.environ:
        pytest.skip(f"make env NAME={package} builds .venvs/{package}")
    return python.absolute()


def runner(package: str) -> Callable[..., subprocess.CompletedProcess]:
    python = python_of(package)

    def run(program: str, *arguments: str | Path, **settings) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [python, "-W", "ignore", HERE / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            **settings,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def scgpt() -> Iterator[types.ModuleType]:
    """The real package in this process: scgpt.model.TransformerModel, scgpt.utils.load_pretrained.

    SCGPT names a folder that holds scgpt/ where it is not that of make upstream-test-scgpt.
    """
    folder = Path(os.environ.get("SCGPT", BUILT / "scgpt-alone/lib/python3.11/site-packages"))
    if not (folder / "scgpt").exists() and "SCGPT" not in os.environ:
        pytest.skip("make upstream-test-scgpt installs scgpt alone in .venvs/scgpt-alone")
    with imported(folder) as package:
        yield package


@pytest.fixture(scope="session")
def run_offline() -> Callable[..., subprocess.CompletedProcess]:
    """Run our script, or a program of this folder, in the Python of another env, without network.

    run_offline("census", "scripts.fetch_census", "--out", path); what went wrong is not raised.
    """

    def run(package: str, program: str, *arguments: str | Path, **environment: str | Path):
        ours = {"PYTHONPATH": f"{PROJECT}:{PROJECT}/workflow", "OMP_NUM_THREADS": "1"}
        what = ["-m", program] if program.startswith("scripts.") else [HERE / program]
        return subprocess.run(
            [python_of(package), *what, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=PROJECT,
            env=os.environ | OFFLINE | ours | environment,
        )

    return run


@pytest.fixture(scope="session")
def write_screen() -> Callable[..., Path]:
    """Simulate, convert and pair a small screen with our scripts: tiny/perturb_processed.h5ad."""

    def write(folder: Path, depth: int, change: Callable[[Path, list[str]], None]) -> Path:
        """`change` is given the raw counts, to write them anew, and the targets."""
        raw, truth, cells = (
            folder / name for name in ("raw.h5ad", "truth.h5ad", "tiny/perturb_processed.h5ad")
        )
        simulate_screen.main(
            [
                *(f"--out={raw}", f"--truth={truth}", f"--network={folder}/network.tsv"),
                *("num_cells=600", "num_genes=100", "num_targets=12", "num_programs=4"),
                *("downstream_genes=10", f"depth={depth}"),
            ]
        )
        change(raw, list(ad.read_h5ad(truth).obs_names))
        report = f"--report={folder}/conversion.json"
        convert_to_gears.main([f"--cells={raw}", "--name=tiny", f"--out={cells}", report])
        controls, pairs = f"--controls={folder}/controls.tsv", f"--pairs={folder}/pairs.npz"
        pair_controls.main([f"--cells={cells}", controls, pairs, "seed=5"])
        return cells

    return write


@pytest.fixture(scope="module")
def paired(folder, screen) -> dict[str, tuple[str, str]]:
    """The control and the condition of every cell that we paired."""
    control_row = read_pairs(folder / "pairs.npz", screen).control_row
    rows = np.flatnonzero(control_row != NOBODY)
    controls = screen.cells[control_row[rows]]
    both = zip(controls, screen.condition[rows], strict=True)
    return dict(zip(screen.cells[rows], both, strict=True))
