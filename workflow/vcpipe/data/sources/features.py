"""The columns of a file's matrix: which are wanted, what they are called, which are one."""

from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.data.counts import is_missing
from vcpipe.data.gene_names import ensembl_id, gene_ids_of
from vcpipe.data.sources.matrix import Wanted
from vcpipe.data.sources.source import Features
from vcpipe.errors import InputError, listed


def wanted_features(
    path: Path, var: pd.DataFrame, names: pd.Series, wanted: Wanted, kept: np.ndarray | None = None
) -> tuple[Features, np.ndarray | None]:
    """Features, and of each column on disk its number among them (None: columns are as on disk).

    `names` has a name for each row of `var`; `kept` says which columns are of the modality.
    """
    missing = is_missing(names)
    if kept is not None:
        missing &= kept
    if missing.any():
        raise InputError(
            f"{path} has {missing.sum()} {wanted.what}s without a name, the first in column "
            f"{np.flatnonzero(missing)[0] + 1}; name them, or set {wanted.setting}.name_key to a "
            "var column that is complete."
        )
    names, ids = names.to_numpy(dtype=str), _ids(var, wanted)
    columns = np.arange(len(names)) if kept is None else np.flatnonzero(kept)
    if not len(columns):
        raise InputError(f"{path} has no {wanted.what}s; expected raw counts of them.")
    codes, distinct = pd.factorize(names[columns].astype(object))
    if len(distinct) < len(columns) and wanted.repeated == "error":
        _refuse_repeated(path, names[columns], wanted)
    if len(distinct) == len(names):
        return Features(names, ids), None
    place = np.full(len(names), -1, dtype=np.int32)
    place[columns] = codes
    return Features(distinct.astype(str), _ids_of_distinct(ids, columns, codes)), place


def _ids(var: pd.DataFrame, wanted: Wanted) -> np.ndarray | None:
    if wanted.modality != "rna":
        return None
    ids = gene_ids_of(var)
    if ids is None and wanted.name_key and any(map(ensembl_id, var.index.astype(str))):
        ids = var.index.to_numpy(dtype=str)
    return ids


def _ids_of_distinct(
    ids: np.ndarray | None, columns: np.ndarray, codes: np.ndarray
) -> np.ndarray | None:
    """The id of each name; none where columns of one name have several."""
    if ids is None:
        return None
    groups = pd.Series(ids[columns]).groupby(codes)
    first = groups.first().to_numpy(dtype=str)
    return np.where(groups.nunique() > 1, "", first)


def _refuse_repeated(path: Path, names: np.ndarray, wanted: Wanted) -> None:
    repeated = pd.unique(names[pd.Series(names).duplicated().to_numpy()])
    dataset = wanted.setting.rsplit(".", 1)[0]
    raise InputError(
        f"{path}: names of {wanted.what}s must be unique; {listed(repeated, 3)} stand more than "
        f"once. Set {wanted.setting}.name_key to where their ids are (of 10x files: id), or "
        f"{dataset}.repeated_features: sum to add up their counts."
    )
