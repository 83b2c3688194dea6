"""Predicted cells of a list, and control cells, as the .vcc file that the challenge takes.

The file is made by the challenge's own tool, cell-eval prep, and then opened and checked: the tool
succeeds even where tar or zstd, which it calls, have failed.
"""

# C cells, G genes

import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from vcpipe.config.eval import Submission
from vcpipe.data.csr_file import CsrFile
from vcpipe.data.hdf5 import writing_hdf5
from vcpipe.data.order import generator_of
from vcpipe.data.predictions import Predictions, SparseRows, open_predictions, write_names
from vcpipe.data.screen import CONTROL, Screen, check_same_screen, perturbed_genes
from vcpipe.data.splits import rows_of
from vcpipe.data.target_lists import Target, read_target_list
from vcpipe.errors import InputError, listed
from vcpipe.files import existing, writing

# What cell-eval prep puts into the tar, and the second one's text.
MEMBERS = ["pred.h5ad.zst", "watermark.txt"]
WATERMARK = "vcc-prep"
LABEL = "target_gene"  # the obs column that the challenge reads
CELLS_AT_ONCE = 256


@dataclass(frozen=True)
class Check:
    """One thing that the finished file was asked."""

    what: str
    found: str
    expected: str

    @property
    def holds(self) -> bool:
        return self.found == self.expected


@dataclass(frozen=True)
class Submitted:
    """The cells of a submission: their labels in order, and their values, read in parts."""

    predictions: Predictions
    screen: Screen
    control_rows: np.ndarray
    columns: np.ndarray  # of the screen, in the order of the submission's genes
    genes: np.ndarray
    labels: np.ndarray  # of each cell: A, A+B, or the controls' label

    def parts(self) -> Iterator[sp.csr_matrix]:
        """Predicted cells, then controls, both on the scale of the screen."""
        for rows, values_CG in self.predictions.chunks(CELLS_AT_ONCE):
            is_predicted = self.predictions.condition[rows] != CONTROL
            yield sp.csr_matrix(values_CG[is_predicted], dtype=np.float32)
        for start in range(0, len(self.control_rows), CELLS_AT_ONCE):
            rows = self.control_rows[start : start + CELLS_AT_ONCE]
            values = self.screen.values(rows)[:, self.columns]
            values.sort_indices()
            yield values


def package(
    predictions: Path, screen: Screen, targets: Path, genes: Path | None, config: Submission
) -> Submitted:
    """Check that the predictions are what the list asks for, and choose the control cells."""
    names = read_genes(genes, screen) if genes else screen.genes
    asked = read_target_list(targets)
    opened = open_predictions(predictions, names, [target.condition for target in asked])
    check_same_screen(predictions, opened.about, screen)
    check_numbers(opened, asked, targets)
    is_predicted = opened.condition != CONTROL
    controls = control_cells(screen, int(is_predicted.sum()), config)
    labels = [label_of(condition) for condition in opened.condition[is_predicted]]
    return Submitted(
        predictions=opened,
        screen=screen,
        control_rows=controls,
        columns=pd.Index(screen.genes).get_indexer(names),
        genes=names,
        labels=np.array([*labels, *[config.control_label] * len(controls)]),
    )


def label_of(condition: str) -> str:
    """A condition as the challenge names it: label_of("A+ctrl") gives "A"."""
    return "+".join(perturbed_genes(condition))


def read_genes(path: Path, screen: Screen) -> np.ndarray:
    """The genes of a submission, one a line without a header: those of the screen, in any order."""
    what = "genes, one a line, as in the challenge's gene_names.csv"
    try:
        lines = existing(path, what).read_text(encoding="utf-8-sig").split()
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path} is no text in UTF-8 ({error}); expected {what}.") from error
    twice = sorted(gene for gene, number in Counter(lines).items() if number > 1)
    if twice:
        raise InputError(f"{path} names {listed(twice)} twice; expected every gene once.")
    missing, surplus = set(lines) - set(screen.genes), set(screen.genes) - set(lines)
    if missing or surplus:
        parts = [f"names {listed(sorted(missing))}, which the screen lacks"] if missing else []
        parts += [f"lacks {listed(sorted(surplus))} of the screen"] if surplus else []
        raise InputError(
            f"{path} {' and '.join(parts)}; expected the {len(screen.genes)} genes of "
            f"{screen.path}, by the same names and without a header."
        )
    return np.array(lines)


def check_numbers(predictions: Predictions, asked: list[Target], targets: Path) -> None:
    """Refuse more or fewer cells of a target than the list asks for."""
    found = Counter(predictions.condition.tolist())
    wrong = [
        f"{target.condition} ({found[target.condition]} instead of {target.num_cells})"
        for target in asked
        if found[target.condition] != target.num_cells
    ]
    if wrong:
        raise InputError(
            f"{predictions.path} has other numbers of cells than {targets} asks for: "
            f"{listed(wrong)}. Predict this list with predict_perturbations --targets."
        )


def control_cells(screen: Screen, num_predicted: int, config: Submission) -> np.ndarray:
    """Rows of the control cells that are handed in: all of the screen, or some that are drawn."""
    rows = rows_of(screen, [CONTROL])
    if config.num_controls is not None and config.num_controls < len(rows):
        rows = np.sort(generator_of(config.seed).choice(rows, config.num_controls, replace=False))
    if num_predicted + len(rows) > config.max_cells:
        room = config.max_cells - num_predicted
        remedy = (
            f"set eval.submission.num_controls to {room} or fewer"
            if room > 0
            else "list fewer cells"
        )
        raise InputError(
            f"{num_predicted} predicted and {len(rows)} control cells are more than the "
            f"{config.max_cells} that the challenge takes (eval.submission.max_cells); {remedy}."
        )
    return rows


def write_submission(submitted: Submitted, config: Submission, out: Path, checks: Path) -> None:
    """Let the tool make the file, look into it, and put it and the checks in place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as work, writing(out) as made:
        cells, genes = Path(work, "cells.h5ad"), Path(work, "genes.csv")
        write_cells(cells, submitted)
        genes.write_text("".join(f"{gene}\n" for gene in submitted.genes))
        run_tool(cells, genes, made, config)
        found = check_submission(made, submitted, Path(work), config)
        refuse_another(found)
        table = pd.DataFrame([[one.what, one.found, one.expected] for one in found])
        table.columns = ["what", "found", "expected"]
        with writing(checks) as partial:
            table.to_csv(partial, sep="\t", index=False)


def refuse_another(checks: list[Check]) -> None:
    wrong = [f"{one.what}: {one.found}, not {one.expected}" for one in checks if not one.holds]
    if wrong:
        raise InputError(
            f"cell-eval prep wrote another .vcc than was asked for ({listed(wrong)}); its words "
            "above may say why."
        )


def write_cells(path: Path, submitted: Submitted) -> None:
    """The h5ad that the tool reads: labels, names of genes, and values."""
    with writing_hdf5(path) as file:
        file.attrs["encoding-type"] = "anndata"
        file.attrs["encoding-version"] = "0.1.0"
        values = SparseRows(file, "X", len(submitted.genes))
        for part in submitted.parts():
            values.append(part)
        values.close()
        names = [f"cell{number}" for number in range(len(submitted.labels))]
        obs = pd.DataFrame({LABEL: pd.Categorical(submitted.labels)}, index=names)
        write_names(file, obs, submitted.genes)


def run_tool(cells: Path, genes: Path, out: Path, config: Submission) -> None:
    """Run cell-eval prep of this Python; what it says of an error is passed on."""
    command = [
        *(sys.executable, "-m", "cell_eval", "prep", "--input", str(cells)),
        *("--genes", str(genes), "--output", str(out), "--ntc-name", config.control_label),
        *("--pert-col", LABEL, "--output-pert-col", LABEL, "--encoding", "32"),
        *("--max-cell-dim", str(config.max_cells), "--expected-gene-dim", "-1"),
    ]
    # There it writes all values once more before it compresses them.
    env = os.environ | {"TMPDIR": str(cells.parent.absolute())}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    print(*lines, sep="\n")
    if done.returncode or not out.exists():
        raise InputError(
            f"cell-eval prep failed (exit status {done.returncode}): "
            f"{lines[-1] if lines else 'it says nothing'}. It needs tar and zstd on PATH."
        )


def check_submission(
    path: Path, submitted: Submitted, work: Path, config: Submission
) -> list[Check]:
    """Open a .vcc and compare it, value by value, with what was to be handed in."""
    unpacked = unpack(path, work)
    with h5py.File(unpacked) as file:
        obs, var = ad.io.read_elem(file["obs"]), ad.io.read_elem(file["var"])
        matrix = CsrFile(file["X"])
        labels = obs[LABEL].to_numpy(dtype=str) if LABEL in obs else np.array([])
        is_control = labels == config.control_label
        expected = submitted.labels
        dtype = str(file["X/data"].dtype)
        same_genes = np.array_equal(var.index.to_numpy(dtype=str), submitted.genes)
        checks = [
            Check("genes", str(len(var)), str(len(submitted.genes))),
            Check("genes in the order of the list", _yes(same_genes), "yes"),
            Check("cells", str(len(obs)), str(len(expected))),
            Check(f"cells within {config.max_cells}", _yes(len(obs) <= config.max_cells), "yes"),
            Check(
                "targets",
                str(len(set(labels[~is_control]))),
                str(len(set(expected) - {config.control_label})),
            ),
            Check("cells of each target", _yes(Counter(labels) == Counter(expected)), "yes"),
            Check(
                f"control cells ({config.control_label})",
                str(is_control.sum()),
                str(len(submitted.control_rows)),
            ),
            Check("type of values", dtype, "float32"),
        ]
        if all(check.holds for check in checks):
            checks.append(Check("values as predicted", _yes(_same(matrix, submitted)), "yes"))
    return checks


def unpack(path: Path, work: Path) -> Path:
    """The h5ad inside a .vcc, which is a tar with a zstd file and a watermark."""
    try:
        with tarfile.open(path) as tar:
            names = tar.getnames()
            if names != MEMBERS or tar.extractfile(MEMBERS[1]).read().decode() != WATERMARK:
                raise InputError(
                    f"cell-eval prep wrote a .vcc with {listed(names) or 'nothing'} in it, not "
                    f"{listed(MEMBERS)}. Was there room on the disk, and is zstd on PATH?"
                )
            packed = pa.CompressedInputStream(pa.PythonFile(tar.extractfile(MEMBERS[0])), "zstd")
            with (work / "unpacked.h5ad").open("wb") as file:
                while part := packed.read(2**22):
                    file.write(part)
    except (tarfile.TarError, OSError) as error:
        raise InputError(
            f"cell-eval prep wrote a .vcc that cannot be opened ({error}). Was there room on the "
            "disk, and is zstd on PATH?"
        ) from error
    return work / "unpacked.h5ad"


def _same(matrix: CsrFile, submitted: Submitted) -> bool:
    """Whether all values are those of the cells, in their order."""
    start = 0
    for part in submitted.parts():
        found = matrix[start : start + part.shape[0]]
        if found.shape != part.shape or abs(found - part).nnz:
            return False
        start += part.shape[0]
    return start == matrix.shape[0]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
