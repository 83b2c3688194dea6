"""One query of the CELLxGENE Census, or of a census of one's own, streamed into an h5ad.

Runs in the env census: the census's reader stands beside other versions of packages than ours.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcpipe.config.atlases import Census
from vcpipe.config.value_filter import columns_of, misfits
from vcpipe.data.hdf5 import GrowingArray, writing_hdf5
from vcpipe.errors import InputError, listed

try:
    import cellxgene_census
    import pyarrow as pa
    import requests
    import tiledbsoma
except ModuleNotFoundError as error:
    raise InputError(
        f"{error.name} is not installed in {sys.prefix}; make env NAME=census installs it in "
        ".venvs/census, whose Python runs fetch_census."
    ) from error

# Cells of one read: at 2,400 genes each 0.1 GB, as TileDB gives them.
CELLS = 2048
# TileDB's own default, 1 GiB for each of three columns, is for reads of 65,536 cells.
BUFFER = 128 * 2**20
MEASUREMENT, LAYER = "RNA", "raw"
GENE_ID, GENE_NAME = "feature_id", "feature_name"
PRIMARY = "is_primary_data"


def fetch(census: Census, out: Path) -> dict:
    """Write the raw counts of the cells and genes asked for, and return what they are.

    Cells are named by their soma_joinid and genes by feature_id, which are unique in a release;
    var keeps feature_id and feature_name. Both are in the order of their ids.
    """
    with _opened(census) as (collection, release):
        experiment = _experiment(collection, census)
        rna = experiment.ms[MEASUREMENT]
        _refuse_other_columns(census, experiment.obs, rna.var)
        _warn_of_copies(census, experiment.obs)
        cells = _table(
            experiment.obs, census.cell_filter(), [*census.columns(), *_size(experiment)]
        )
        if len(cells) == 0:
            raise InputError(_no_cells(census, experiment.obs))
        genes = _table(rna.var, census.var_value_filter, [GENE_ID, GENE_NAME])
        if len(genes) == 0:
            raise InputError(f"No gene of {census.organism} fits {census.var_value_filter}.")
        print(f"{len(cells)} cells, {len(genes)} genes", flush=True)
        about = {
            "asked": census.model_dump(mode="json"),
            "obs_value_filter": census.cell_filter(),
            "release": release,
            "num_cells": len(cells),
            "num_genes": len(genes),
            "soma_joinid": {"cells": _digest(cells.index), "genes": _digest(genes.index)},
        }
        # The census counts each cell's detected genes, of all its genes.
        all_genes = len(genes) == rna.var.count
        needed = int(8 * cells["nnz"].sum()) if "nnz" in cells and all_genes else None
        with writing_hdf5(out, needed) as file:
            blocks = _blocks(rna.X[LAYER], cells.index, genes.index, all_genes)
            about["num_entries"] = _write_counts(file, blocks, (len(cells), len(genes)))
            _write_labels(file, cells[census.columns()], genes, about)
    return about


@contextmanager
def _opened(census: Census) -> Iterator[tuple[tiledbsoma.Collection, dict]]:
    """The census and its release; what fails in it or on the way there is one message."""
    config = {"soma.init_buffer_bytes": BUFFER, "py.init_buffer_bytes": BUFFER}
    place = census.uri or "the public census"
    try:
        if census.uri:
            about = {}
            opened = cellxgene_census.open_soma(uri=census.uri, tiledb_config=config)
        else:
            about = {"version": _release(census.census_version)}
            opened = cellxgene_census.open_soma(
                census_version=about["version"], tiledb_config=config
            )
        with opened as collection:
            yield collection, {**about, "uri": collection.uri, **_summary(collection)}
    except tiledbsoma.DoesNotExistError as error:
        raise InputError(
            f"{place} is no census ({_first_line(error)}); expected a SOMA collection with "
            "census_data and census_info."
        ) from error
    except requests.RequestException as error:
        raise InputError(
            f"The list of the census's releases cannot be reached: {_first_line(error)}. Check the "
            "network and run it again, or set uri to a census of your own."
        ) from error
    except tiledbsoma.SOMAError as error:
        raise InputError(
            f"{place} cannot be read: {_first_line(error)}. Check the filters, uri and the "
            "network, then run it again."
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def _release(version: str) -> str:
    """The release date behind a version: `stable` and `latest` move on."""
    known = cellxgene_census.get_census_version_directory()
    if version not in known:
        dates = sorted({each["release_build"] for each in known.values()}, reverse=True)
        raise InputError(
            f"census_version is {version!r}; expected stable, latest or a release: {listed(dates)}"
        )
    build = known[version]["release_build"]
    if version != build:
        print(
            f"warning: census_version {version} is the release of {build} today; write "
            f"census_version: {build} to get the same cells later on.",
            file=sys.stderr,
        )
    return build


def _summary(collection: tiledbsoma.Collection) -> dict[str, str]:
    """Build date and versions, as the census states them; a census of one's own may not."""
    if "census_info" not in collection or "summary" not in collection["census_info"]:
        return {}
    table = collection["census_info"]["summary"].read().concat().to_pydict()
    stated = dict(zip(table["label"], table["value"], strict=True))
    wanted = ("census_build_date", "census_schema_version", "dataset_schema_version")
    return {label: stated[label] for label in wanted if label in stated}


def _experiment(collection: tiledbsoma.Collection, census: Census) -> tiledbsoma.Experiment:
    """The organism's part: census_data/homo_sapiens."""
    name = "_".join(census.organism.lower().split())
    if "census_data" not in collection:
        raise InputError(f"{collection.uri} holds {listed(collection)}; expected census_data.")
    organisms = collection["census_data"]
    if name not in organisms:
        known = listed(key.replace("_", " ").capitalize() for key in organisms)
        raise InputError(f"organism is {census.organism!r}; the census holds {known}.")
    experiment = organisms[name]
    if MEASUREMENT not in experiment.ms or LAYER not in experiment.ms[MEASUREMENT].X:
        raise InputError(f"{experiment.uri} holds no raw counts at ms/{MEASUREMENT}/X/{LAYER}.")
    return experiment


def _refuse_other_columns(
    census: Census, obs: tiledbsoma.DataFrame, var: tiledbsoma.DataFrame
) -> None:
    """Columns that are not there, and values that a column cannot hold."""
    of_genes = columns_of(census.var_value_filter) if census.var_value_filter else []
    for what, columns, table in (
        ("cells", census.columns(), obs),
        ("genes", [*of_genes, GENE_ID, GENE_NAME], var),
    ):
        unknown = [column for column in columns if column not in table.keys()]  # noqa: SIM118
        if unknown:
            raise InputError(
                f"The census has no column {listed(unknown)} of {what}; expected among "
                f"{listed(table.keys(), 60)}. In a filter, text stands in quotes."
            )
    wrong = misfits(census.filters, {field.name: _kind(field.type) for field in obs.schema})
    if wrong:
        raise InputError("; ".join(wrong) + ".")


def _warn_of_copies(census: Census, obs: tiledbsoma.DataFrame) -> None:
    """A cell is in the census once for each data set that holds it."""
    named = columns_of(census.cell_filter()) if census.cell_filter() else []
    if PRIMARY in obs.keys() and PRIMARY not in named:  # noqa: SIM118
        print(
            f"warning: the filter does not name {PRIMARY}; cells that several data sets share come "
            f"several times. {PRIMARY} == True takes each once.",
            file=sys.stderr,
        )


def _kind(type_: pa.DataType) -> str:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_boolean(type_):
        return "true or false"
    if pa.types.is_integer(type_):
        return "whole numbers"
    return "numbers" if pa.types.is_floating(type_) else "text"


def _size(experiment: tiledbsoma.Experiment) -> list[str]:
    return ["nnz"] if "nnz" in experiment.obs.keys() else []  # noqa: SIM118


def _table(table: tiledbsoma.DataFrame, condition: str | None, columns: list[str]) -> pd.DataFrame:
    """Columns of the rows that fit, by soma_joinid in ascending order."""
    names = list(dict.fromkeys(["soma_joinid", *columns]))
    read = table.read(value_filter=condition, column_names=names).concat().to_pandas()
    return read.set_index("soma_joinid", drop=False).sort_index()[names]


def _no_cells(census: Census, obs: tiledbsoma.DataFrame) -> str:
    """Say which filter left nothing, and the values of its columns that no cell has."""
    found = [f"No cell of {census.organism} fits {census.cell_filter()}."]
    for column, value in census.filters.items():
        if pa.types.is_dictionary(obs.schema.field(column).type):
            (known,) = obs.get_enumeration_values([column]).values()
            known = sorted(known.to_pylist())
            absent = [
                each for each in ([value] if isinstance(value, str) else value) if each not in known
            ]
            if absent:
                found.append(f"{column} is never {listed(absent)}; it is {listed(known, 20)}.")
    return " ".join(found)


def _digest(joinids: pd.Index) -> str:
    return hashlib.sha256(joinids.to_numpy(dtype="<i8").tobytes()).hexdigest()


def _blocks(
    counts: tiledbsoma.SparseNDArray, cells: pd.Index, genes: pd.Index, all_genes: bool
) -> Iterator[sp.csr_matrix]:
    """Raw counts of some cells at a time; TileDB gives entries in any order."""
    cells, genes = cells.to_numpy(), genes.to_numpy()
    for start in range(0, len(cells), CELLS):
        part = cells[start : start + CELLS]
        wanted = (part, slice(None) if all_genes else genes)
        entries = counts.read(wanted).tables().concat()
        rows, columns, values = (entries[name].to_numpy() for name in entries.column_names)
        places = np.searchsorted(part, rows), np.searchsorted(genes, columns)
        yield sp.csr_matrix((values, places), shape=(len(part), len(genes)))


def _write_counts(file: h5py.File, blocks: Iterator[sp.csr_matrix], shape: tuple[int, int]) -> int:
    """Append the blocks to X; return the number of entries."""
    group = file.create_group("X")
    group.attrs.update(
        {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array(shape)}
    )
    most_entries = int(np.prod(shape))
    indices = GrowingArray(group, "indices", np.int32, most_entries)
    values = GrowingArray(group, "data", np.float32, most_entries)
    lengths = []
    done = 0
    for block in blocks:
        block.sort_indices()
        indices.append(block.indices)
        values.append(block.data)
        lengths.append(np.diff(block.indptr))
        done += block.shape[0]
        print(f"{done} of {shape[0]} cells", flush=True)
    for array in (indices, values):
        array.close()
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
    group["indptr"] = starts
    return int(starts[-1])


def _write_labels(file: h5py.File, cells: pd.DataFrame, genes: pd.DataFrame, about: dict) -> None:
    obs = cells.copy()
    for column in obs.columns[obs.dtypes == "category"]:
        # A release's every value is a category, the wanted cells' or not.
        obs[column] = obs[column].cat.remove_unused_categories()
    obs.index = obs.index.astype(str)
    var = genes[[GENE_ID, GENE_NAME]].astype(object)
    var.index = pd.Index(var[GENE_ID].to_numpy(), name=None)
    file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for key in ("layers", "obsm", "obsp", "varm", "varp"):
        ad.io.write_elem(file, key, {})
    ad.io.write_elem(file, "obs", obs)
    ad.io.write_elem(file, "var", var)
    ad.io.write_elem(file, "uns", {"census": json.dumps(about, sort_keys=True)})
