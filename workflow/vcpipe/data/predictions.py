"""Predicted cells (h5ad), whoever made them: written and read a few cells at a time."""

# C cells, G genes

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.data.hdf5 import GrowingArray, writing_hdf5
from vcpipe.data.predicted_cells import PredictedCells
from vcpipe.data.screen import CONTROL
from vcpipe.errors import InputError, listed
from vcpipe.files import existing

# log1p of counts scaled to 10,000 per cell stays below log1p(10,000) = 9.2; VCC's limit is 15.
LARGEST_LOG = 15
# Entries of a chunk on disk, 1 MB: HDF5's cache holds one, which the next read may need again.
ENTRIES = 2**18
ABOUT = ("model", "kind", "dataset", "split")
KINDS = ("model", "baseline")


@dataclass(frozen=True)
class Predictions:
    """Predicted cells of one model; values stay on disk until they are read."""

    path: Path
    condition: np.ndarray  # str, in the order of the rows
    columns: np.ndarray  # where each gene of the screen stands in the file
    about: dict

    def chunks(self, size: int = 512) -> Iterator[tuple[slice, np.ndarray]]:
        """All cells in row order, genes in the screen's order; values are checked as they pass."""
        with h5py.File(self.path) as file:
            matrix = file["X"]
            if isinstance(matrix, h5py.Group):
                matrix = ad.io.sparse_dataset(matrix)
            for start in range(0, len(self.condition), size):
                rows = slice(start, min(start + size, len(self.condition)))
                values_CG = matrix[rows]
                if sp.issparse(values_CG):
                    values_CG = values_CG.toarray()
                values_CG = values_CG[:, self.columns]
                _check_values(self.path, values_CG)
                yield rows, values_CG


def write_predictions(
    path: Path, predictions: Iterable[PredictedCells], genes: np.ndarray, about: dict
) -> None:
    """Write predicted cells as they come, in the order of the genes; none of them is kept."""
    with writing_hdf5(path) as file:
        file.attrs["encoding-type"] = "anndata"
        file.attrs["encoding-version"] = "0.1.0"
        values = SparseRows(file, "X", len(genes))
        counts: SparseRows | None = None
        conditions: list[str] = []
        for condition, values_CG, counts_CG in predictions:
            check_predicted(f"The cells predicted for {condition}", values_CG, len(genes))
            values.append(sp.csr_matrix(values_CG, dtype=np.float32))
            if counts_CG is not None:
                counts = counts or SparseRows(file, "layers/counts", len(genes))
                counts.append(counts_CG)
            conditions += [condition] * len(values_CG)
        values.close()
        if counts is not None:
            counts.close()
            file["layers"].attrs["encoding-type"] = "dict"
            file["layers"].attrs["encoding-version"] = "0.1.0"
            assert len(counts.starts) == len(values.starts)
        names = [f"predicted{i}" for i in range(len(conditions))]
        obs = pd.DataFrame({"condition": pd.Categorical(conditions)}, index=names)
        write_names(file, obs, genes)
        ad.io.write_elem(file, "uns", {"vcpipe": json.dumps(about, sort_keys=True)})


class SparseRows:
    """A CSR matrix of an h5ad that grows row by row."""

    def __init__(self, file: h5py.File, name: str, num_columns: int):
        self.group, self.num_columns = file.create_group(name), num_columns
        self.data = GrowingArray(self.group, "data", np.float32, ENTRIES, compressed=True)
        self.indices = GrowingArray(self.group, "indices", np.int32, ENTRIES, compressed=True)
        self.starts = [0]

    def append(self, rows: sp.csr_matrix) -> None:
        self.data.append(rows.data)
        self.indices.append(rows.indices)
        self.starts += (self.starts[-1] + rows.indptr[1:].astype(np.int64)).tolist()

    def close(self) -> None:
        self.data.close()
        self.indices.close()
        self.group["indptr"] = np.array(self.starts, dtype=np.int64)
        self.group.attrs["encoding-type"] = "csr_matrix"
        self.group.attrs["encoding-version"] = "0.1.0"
        self.group.attrs["shape"] = np.array([len(self.starts) - 1, self.num_columns])


def write_names(file: h5py.File, obs: pd.DataFrame, genes: np.ndarray) -> None:
    ad.io.write_elem(file, "obs", obs)
    ad.io.write_elem(file, "var", pd.DataFrame(index=np.asarray(genes, dtype=object)))


def check_predicted(what: str, values_CG: np.ndarray, num_genes: int) -> None:
    """Refuse what a model must not say; whether it is on the log scale, a reader of all sees."""
    if values_CG.shape[1] != num_genes:
        raise InputError(
            f"{what} have {values_CG.shape[1]} genes; expected {num_genes}, those of the screen."
        )
    lowest, largest = values_CG.min(), values_CG.max()  # NaN if any value is
    if not np.isfinite(lowest + largest):
        raise InputError(
            f"{what} have values that are NaN or infinite; expected numbers for all genes. "
            "Look at the losses of its training."
        )
    if lowest < 0:
        raise InputError(f"{what} have values below 0 ({lowest:.3g}); expected log1p values.")


def open_predictions(path: Path, genes: np.ndarray, conditions: list[str]) -> Predictions:
    """Open predictions of exactly these genes, in any order, and these conditions.

    Control cells (condition ctrl) may be there too, as in VCC's format; they predict nothing.
    """
    existing(path, "predicted cells as predict_perturbations writes them")
    if not h5py.is_hdf5(path):
        raise InputError(f"{path} is not an h5ad file; expected what predict_perturbations writes.")
    with h5py.File(path) as file:
        missing = [name for name in ("X", "obs", "var") if name not in file]
        if missing:
            raise InputError(f"{path} has no {listed(missing)}; expected an h5ad file.")
        obs: pd.DataFrame = ad.io.read_elem(file["obs"])
        var: pd.DataFrame = ad.io.read_elem(file["var"])
        text = ad.io.read_elem(file["uns/vcpipe"]) if "uns/vcpipe" in file else None
    if "condition" not in obs:
        raise InputError(
            f"{path} has no obs column 'condition', only {listed(obs.columns) or 'none'}. "
            "Name each cell's perturbation there as the split does: GENE+ctrl or A+B."
        )
    condition = obs["condition"].to_numpy(dtype=str)
    _check_names(path, "perturbations", set(condition) - {CONTROL}, set(conditions))
    return Predictions(Path(path), condition, _columns(path, var.index, genes), _about(path, text))


def _columns(path: Path, found: pd.Index, genes: np.ndarray) -> np.ndarray:
    if found.has_duplicates:
        twice = sorted(set(found[found.duplicated()]))
        raise InputError(f"{path} has genes twice: {listed(twice)}. Keep one column of each.")
    _check_names(path, "genes", set(found), set(genes))
    return found.get_indexer(genes)


def _check_names(path: Path, what: str, found: set[str], expected: set[str]) -> None:
    problems = []
    if expected - found:
        problems.append(f"without {listed(sorted(expected - found))}")
    if found - expected:
        problems.append(f"with {listed(sorted(found - expected))} too many")
    if problems:
        raise InputError(
            f"{path} has {len(found)} {what}, {' and '.join(problems)}; expected the "
            f"{len(expected)} {what} of the screen and its split, by the same names. "
            "Predict for the same perturb_processed.h5ad and split."
        )


def _about(path: Path, text: str | None) -> dict:
    example = '{"model": "mine", "kind": "model", "dataset": "vcc", "split": "unseen"}'
    try:
        about = json.loads(text)
        problem = listed([key for key in ABOUT if key not in about])
    except (TypeError, ValueError):
        about, problem = {}, "JSON"
    if problem:
        raise InputError(
            f"{path} has no {problem} in uns['vcpipe']; expected who predicted what, "
            f"as JSON text, for example {example}."
        )
    if about["kind"] not in KINDS:
        raise InputError(f"{path} is of kind {about['kind']!r}; expected {' or '.join(KINDS)}.")
    return {"config_digest": "", "notes": [], **about}


def _check_values(path: Path, values_CG: np.ndarray) -> None:
    lowest, largest = values_CG.min(), values_CG.max()  # NaN if any value is
    if not np.isfinite(lowest + largest):
        raise InputError(f"{path} has values that are NaN or infinite; expected numbers for all.")
    if lowest < 0:
        raise InputError(
            f"{path} has values below 0 ({lowest:.3g}); expected log1p values. Clip them at 0."
        )
    # The first cells nearly always decide it, without a look at all the others.
    is_whole = largest > 0 and not ((values_CG[:8] % 1).any() or (values_CG % 1).any())
    if largest > LARGEST_LOG or is_whole:
        found = f"largest value {largest:.4g}{', whole numbers only' if is_whole else ''}"
        raise InputError(
            f"{path} is not on the log scale ({found}); "
            "expected log1p of counts that are scaled to 10,000 per cell."
        )
