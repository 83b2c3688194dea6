"""A converted screen (perturb_processed.h5ad), read in rows as they are needed."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.data.csr_file import StoredRows
from vcpipe.data.gene_names import gene_ids_of
from vcpipe.data.hdf5 import reading_hdf5
from vcpipe.errors import InputError
from vcpipe.files import digest

CONTROL = "ctrl"


@dataclass(frozen=True)
class Screen:
    """What every later stage knows of a screen; values stay on disk until rows are read."""

    path: Path
    genes: np.ndarray  # str, in the order of the columns
    cells: np.ndarray  # str, in the order of the rows
    condition: np.ndarray  # str: "ctrl", "GENE+ctrl", "A+B"
    batch: np.ndarray  # str
    cell_type: np.ndarray  # str
    about: dict  # data_digest and settings of the conversion
    gene_ids: np.ndarray | None = None  # str, Ensembl ids where var has them

    @property
    def name(self) -> str:
        return self.about["name"]

    @property
    def target_sum(self) -> float:
        return self.about["settings"]["normalisation"]["target_sum"]

    @property
    def data_digest(self) -> str:
        return self.about["data_digest"]

    def values(self, rows: np.ndarray | slice) -> sp.csr_matrix:
        """Log-normalised values of some cells, float32, in the order of `rows`."""
        return self._values[rows]

    def counts(self, rows: np.ndarray | slice) -> sp.csr_matrix:
        """Raw counts of some cells, as float32."""
        return self._counts[rows]

    @property
    def num_detected(self) -> np.ndarray:
        """How many genes each cell has counts of."""
        return np.diff(self._counts.starts)

    def chunks(self, size: int = 2048) -> Iterator[tuple[slice, sp.csr_matrix]]:
        """All log-normalised values in row order, `size` cells at a time."""
        for start in range(0, len(self.cells), size):
            rows = slice(start, min(start + size, len(self.cells)))
            yield rows, self.values(rows)

    @cached_property
    def _values(self) -> StoredRows:
        return StoredRows(self.path, "X")

    @cached_property
    def _counts(self) -> StoredRows:
        return StoredRows(self.path, "layers/counts")


def check_same_screen(path: Path, about: dict, screen: Screen) -> None:
    """Refuse what was made from other cells, or from the same cells on another scale."""
    for key, expected in (("data_digest", screen.data_digest), ("target_sum", screen.target_sum)):
        if about.get(key, expected) != expected:
            raise InputError(
                f"{path} was made from a screen whose {key} is {about[key]}, but that of "
                f"{screen.path} is {expected}. Make it again from the present screen."
            )


def names_digests(cells: Iterable[str], genes: Iterable[str]) -> dict[str, str]:
    """Hash the names of a screen's cells and genes, each in their order."""
    return {
        f"{what}_digest": digest([str(name) for name in names])
        for what, names in (("cells", cells), ("genes", genes))
    }


def _check_names(path: Path, about: dict, found: dict[str, str]) -> None:
    """Refuse other rows or columns than were converted: anndata keeps uns when it takes some."""
    for key, value in found.items():
        if key not in about:
            raise InputError(
                f"{path} was written by an earlier convert_to_gears (uns['vcpipe'] has no {key}); "
                "convert again."
            )
        if about[key] != value:
            raise InputError(
                f"{path} was changed after convert_to_gears wrote it (its "
                f"{key.removesuffix('_digest')} are other or in another order); convert again."
            )


def _check_layout(path: Path, file: h5py.File) -> None:
    for name in ("X", "layers/counts"):
        layout = file[name].attrs.get("encoding-type", "of no layout") if name in file else "absent"
        if layout != "csr_matrix":
            raise InputError(
                f"{path} was changed after convert_to_gears wrote it ({name} is {layout}, not "
                "csr_matrix); convert again."
            )


def perturbed_genes(condition: str) -> list[str]:
    """The genes of a condition: perturbed_genes("A+ctrl") gives ["A"], of "ctrl" nothing."""
    return [gene for gene in condition.split("+") if gene != CONTROL]


def open_screen(path: Path) -> Screen:
    """Open what convert_to_gears wrote; reads names and labels, no values."""
    what = "the perturb_processed.h5ad that convert_to_gears writes"
    with reading_hdf5(path, what, "rerun convert_to_gears") as file:
        if "uns" not in file or "vcpipe" not in file["uns"]:
            raise InputError(
                f"{path} was not written by convert_to_gears; expected uns['vcpipe']. "
                "Convert the raw counts with python -m scripts.convert_to_gears."
            )
        _check_layout(path, file)
        obs: pd.DataFrame = ad.io.read_elem(file["obs"])
        var: pd.DataFrame = ad.io.read_elem(file["var"])
        about = json.loads(ad.io.read_elem(file["uns/vcpipe"]))
    _check_names(path, about, names_digests(obs.index, var["gene_name"]))
    screen = Screen(
        path=Path(path),
        genes=var["gene_name"].to_numpy(dtype=str),
        cells=obs.index.to_numpy(dtype=str),
        condition=obs["condition"].to_numpy(dtype=str),
        batch=obs["batch"].to_numpy(dtype=str),
        cell_type=obs["cell_type"].to_numpy(dtype=str),
        about=about,
        gene_ids=gene_ids_of(var),
    )
    # Opened with the labels: a file that takes its name later has other rows.
    assert screen._values.shape == screen._counts.shape
    return screen
