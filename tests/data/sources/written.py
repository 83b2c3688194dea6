"""The same counts written as every kind of file that is read."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

LAYOUTS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda counts: counts.toarray()}


@dataclass(frozen=True)
class Table:
    """Cells × features, and their names."""

    counts: sp.csr_matrix
    cells: list[str]
    features: list[str]
    obs: pd.DataFrame | None = None
    kind: str = "Gene Expression"

    def anndata(self, layout: str = "csr", counts=None) -> ad.AnnData:
        obs = pd.DataFrame(index=self.cells) if self.obs is None else self.obs
        var = pd.DataFrame({"symbol": self.features}, index=self.features)
        matrix = LAYOUTS[layout](self.counts if counts is None else counts)
        return ad.AnnData(matrix, obs, var)


def write_h5ad(path: Path, table: Table, layout: str = "csr", **options) -> Path:
    table.anndata(layout).write_h5ad(path, **options)
    return path


def write_layer(path: Path, table: Table, layout: str = "csr") -> Path:
    cells = table.anndata(layout)
    cells.layers["raw_counts"] = cells.X
    cells.X = np.full(cells.shape, 0.5, dtype=np.float32)
    cells.write_h5ad(path)
    return path


def write_raw(path: Path, table: Table, layout: str = "csr") -> Path:
    cells = table.anndata(layout)
    # As scanpy leaves it: raw has all genes, X some of them, normalised.
    cells.raw = cells
    cells = cells[:, :1].copy()
    cells.X = np.full(cells.shape, 0.5, dtype=np.float32)
    cells.write_h5ad(path)
    return path


def write_h5mu(path: Path, tables: dict[str, Table], labels: pd.DataFrame | None = None) -> Path:
    """As mudata writes it: a block of text first, obsmap with rows from 1 (0: none)."""
    names = sorted({cell for table in tables.values() for cell in table.cells})
    labels = pd.DataFrame(index=names) if labels is None else labels.loc[names]
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, table in tables.items():
            ad.io.write_elem(file, f"mod/{key}", table.anndata())
            rows = {cell: row for row, cell in enumerate(table.cells, start=1)}
            file[f"obsmap/{key}"] = np.array([rows.get(name, 0) for name in names], dtype="u4")
        ad.io.write_elem(file, "obs", labels)
    with path.open("r+b") as file:
        file.write(b"MuData (format-version=0.1.0;creator=tests;)")
    return path


def write_tenx_h5(path: Path, tables: list[Table], version: int = 3) -> Path:
    """As Cell Ranger writes it: features of all kinds, one under the other, × cells, as CSC."""
    counts = sp.hstack([table.counts for table in tables], format="csr")
    features = [name for table in tables for name in table.features]
    kinds = [table.kind for table in tables for _ in table.features]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["barcodes"] = np.array(tables[0].cells, dtype="S")
        group["data"] = counts.data.astype(np.int32)
        group["indices"] = counts.indices.astype(np.int64)
        group["indptr"] = counts.indptr.astype(np.int64)
        group["shape"] = np.array(counts.shape[::-1], dtype=np.int32)
        names = np.array(features, dtype="S")
        ids = np.array([f"ENSG{number:011d}" for number in range(len(features))], dtype="S")
        if version == 3:
            group["features/name"], group["features/id"] = names, ids
            group["features/feature_type"] = np.array(kinds, dtype="S")
        else:
            group["gene_names"], group["genes"] = names, ids
    return path


def write_mtx(folder: Path, tables: list[Table], compressed: bool = True) -> Path:
    folder.mkdir()
    counts = sp.hstack([table.counts for table in tables]).T
    end = ".gz" if compressed else ""
    lines = [
        f"ENSG{number:011d}\t{name}\t{table.kind}"
        for number, (name, table) in enumerate(
            (name, table) for table in tables for name in table.features
        )
    ]
    write_lines(folder / f"features.tsv{end}", lines)
    write_lines(folder / f"barcodes.tsv{end}", tables[0].cells)
    opened = gzip.open if compressed else open
    with opened(folder / f"matrix.mtx{end}", "wb") as file:
        scipy.io.mmwrite(file, counts.astype(np.int64), field="integer")
    return folder


def write_lines(path: Path, lines: list[str]) -> Path:
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
