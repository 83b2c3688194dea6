"""A store back as AnnData, for other programs: h5ad or zarr, exactly, in bounded memory."""

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from vcpipe.data.cell_store.reading import CellStore
from vcpipe.data.hdf5 import GrowingArray, writing_hdf5
from vcpipe.errors import InputError, listed
from vcpipe.files import writing

# Float32 holds every integer up to here.
EXACT = 2**24
ZARR_CHUNK = 2**18  # entries that are read together
ZARR_SHARD = 64 * ZARR_CHUNK  # and lie in one file


def export_h5ad(store: CellStore, path: Path, modality: str = "rna", species: str | None = None):
    """Write cells of one species by position, and the features that any dataset measured."""
    exported = _Exported(store, modality, species)
    with writing_hdf5(path) as file:
        ad.io.write_elem(file, "/", ad.AnnData(obs=exported.obs, var=exported.var))
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        most = max(exported.num_entries, 1)
        arrays = {
            "data": GrowingArray(group, "data", exported.kind, most),
            "indices": GrowingArray(group, "indices", np.int32, most),
        }
        starts = exported.write(arrays)
        group["indptr"] = starts
        group.attrs.update(exported.attributes)


def export_zarr(store: CellStore, path: Path, modality: str = "rna", species: str | None = None):
    """The same as a zarr v3 folder, sharded, compressed with zstd."""
    import zarr

    exported = _Exported(store, modality, species)
    with writing(path) as partial:
        root = zarr.open_group(partial, mode="w", zarr_format=3)
        # anndata writes zarr v2 unless it is told.
        with ad.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
            ad.io.write_elem(root, "/", ad.AnnData(obs=exported.obs, var=exported.var))
        if "X" in root:
            del root["X"]
        group = root.create_group("X")
        arrays = {
            name: _GrowingZarr(group, name, kind)
            for name, kind in (("data", exported.kind), ("indices", np.int32))
        }
        starts = exported.write(arrays)
        group.create_array("indptr", data=starts)
        shape = [int(size) for size in exported.attributes["shape"]]
        group.attrs.update(exported.attributes | {"shape": shape})


class _Exported:
    """The cells of one species, in the columns of features that were measured."""

    def __init__(self, store: CellStore, modality: str, species: str | None):
        if modality not in store.modalities:
            raise InputError(
                f"{store.path} has no {modality!r}; it has {listed(store.modalities)}."
            )
        known = sorted(store.manifest["modalities"][modality]["num_features"])
        present = sorted({its["species"] for its in store.manifest["datasets"].values()})
        if species is None and len(present) > 1:
            raise InputError(
                f"{store.path} has cells of {listed(present)}, whose genes are not the same "
                "columns; choose one with --species."
            )
        species = species or present[0]
        if species not in known or species not in present:
            raise InputError(f"{store.path} has no cells of {species!r}; it has {listed(present)}.")
        self.store, self.modality = store, modality
        labels = store.labels(np.arange(len(store))).to_pandas()
        self.positions = np.flatnonzero((labels["species"] == species).to_numpy())
        self.obs = labels.iloc[self.positions].drop(columns=["key"])
        several = self.obs["dataset"].nunique() > 1
        prefix = self.obs["dataset"].astype(str) + ":" if several else ""
        self.obs.index = pd.Index(prefix + self.obs["cell"], name=None)
        datasets = store.manifest["datasets"]
        its = [
            ids
            for dataset, ids in store.features_present[modality].items()
            if datasets[dataset]["species"] == species
        ]
        self.ids = np.unique(np.concatenate(its))
        names = np.array(store.feature_names(modality, species), dtype=object)[self.ids]
        self.var = pd.DataFrame({"vocabulary_id": self.ids}, index=pd.Index(names))
        self.column = np.full(self.ids.max(initial=-1) + 1, -1, dtype=np.int32)
        self.column[self.ids] = np.arange(len(self.ids))
        about = store.manifest["statistics"]["modalities"][modality]
        self.kind = np.float32 if about["largest_count"] <= EXACT else np.float64
        self.num_entries = store.manifest["modalities"][modality]["num_entries"]
        self.attributes = {
            "encoding-type": "csr_matrix",
            "encoding-version": "0.1.0",
            "shape": np.array([len(self.positions), len(self.ids)]),
        }

    def write(self, arrays: dict) -> np.ndarray:
        """Append all rows; where each begins."""
        starts = [np.zeros(1, dtype=np.int64)]
        for rows in self._rows():
            arrays["data"].append(rows.counts.astype(self.kind))
            arrays["indices"].append(self.column[rows.ids])
            starts.append(starts[-1][-1] + rows.starts[1:])
        for array in arrays.values():
            array.close()
        return np.concatenate(starts)

    def _rows(self) -> Iterator:
        step = self.store.block_size
        for start in range(0, len(self.positions), step):
            yield self.store.rows(self.positions[start : start + step], self.modality)


class _GrowingZarr:
    """An array that grows by whole shards."""

    def __init__(self, group, name: str, kind: type):
        from zarr.codecs import ZstdCodec

        self.array = group.create_array(
            name,
            shape=(0,),
            dtype=kind,
            chunks=(ZARR_CHUNK,),
            shards=(ZARR_SHARD,),
            compressors=ZstdCodec(level=1),
        )
        self.waiting: list[np.ndarray] = []
        self.num_waiting = 0

    def append(self, values: np.ndarray) -> None:
        self.waiting.append(values)
        self.num_waiting += len(values)
        if self.num_waiting >= ZARR_SHARD:
            values = np.concatenate(self.waiting)
            whole = len(values) // ZARR_SHARD * ZARR_SHARD
            self.array.append(values[:whole])
            self.waiting, self.num_waiting = [values[whole:]], len(values) - whole

    def close(self) -> None:
        if self.num_waiting:
            self.array.append(np.concatenate(self.waiting))
