"""The files of an atlas, opened as sources: a file each, or a pair of RNA and ATAC."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.config.atlases import Atlas, Matrix
from vcpipe.data.orthologs import Orthologs, read_orthologs, refuse_none, translate
from vcpipe.data.sources.cells import as_labels, constant, keys_of
from vcpipe.data.sources.file_cells import FileCells
from vcpipe.data.sources.formats import files_digest, open_matrix
from vcpipe.data.sources.matrix import CellMatrix, Wanted
from vcpipe.data.sources.pairing import pair_cells, refuse_repeated_cells
from vcpipe.data.sources.source import Features
from vcpipe.errors import InputError, listed
from vcpipe.files import digest, matching


def open_atlas(name: str, atlas: Atlas, fetched: Path | None = None) -> list[FileCells]:
    """The sources of an atlas, in the order of its files; reads names and labels, no counts.

    `fetched` is the h5ad that a census or an artifact was written to.
    """
    matrices = _open_files(name, atlas, fetched)
    first = next(iter(matrices))
    # With prefixes a name belongs to its file, the first of RNA to the first of ATAC.
    prefixes = [""] * len(matrices[first])
    if atlas.repeated_cells == "prefix":
        _refuse_other_numbers(name, matrices)
        prefixes = prefixes_of([matrix.path for matrix in matrices[first]])
    keys = {
        modality: [
            keys_of(matrix.cells, prefixes[number] if atlas.repeated_cells == "prefix" else "")
            for number, matrix in enumerate(some)
        ]
        for modality, some in matrices.items()
    }
    for modality, some in matrices.items():
        refuse_repeated_cells(some, keys[modality], name)
    tables = [None] * len(prefixes)
    if atlas.orthologs and "rna" in matrices:
        path = Path(atlas.orthologs)
        orthologs = read_orthologs(path)
        found = [_translated(matrix, orthologs, path) for matrix in matrices["rna"]]
        matrices["rna"], tables = zip(*found, strict=True)
    if len(matrices) == 1:
        overlap, groups = None, [(n, {first: n}, {first: None}) for n in range(len(prefixes))]
    else:
        pairs, overlap = pair_cells(matrices["rna"], matrices["atac"], keys, name)
        groups = [(pair.rna, {"rna": pair.rna, "atac": pair.atac}, pair.rows) for pair in pairs]
    sources = []
    for number, files, rows in groups:
        its = {modality: matrices[modality][n] for modality, n in files.items()}
        source = FileCells(
            dataset=name,
            species=atlas.ortholog_species if atlas.orthologs else atlas.species,
            matrices=its,
            rows=rows,
            labels=_labels(name, atlas, its, rows),
            prefix=prefixes[number],
            data_digest="",
            file_digests=tuple(dict.fromkeys(files_digest(one.path) for one in its.values())),
            overlap=overlap,
            orthologs=tables[number],
        )
        sources.append(replace(source, data_digest=_digest(source, keys[first][number])))
    return sources


def _open_files(name: str, atlas: Atlas, fetched: Path | None) -> dict[str, list[CellMatrix]]:
    parts = {"rna": atlas.rna, "atac": atlas.atac}
    if fetched is not None:
        parts = {"rna": Matrix(paths=[str(fetched)])}
    matrices = {
        modality: [
            open_matrix(path, _wanted(name, modality, part, atlas))
            for path in find_paths(part.paths, f"atlases.{name}.{modality}.paths")
        ]
        for modality, part in parts.items()
        if part is not None
    }
    assert matrices, "a census or an artifact must have been fetched"
    return matrices


def _wanted(name: str, modality: str, part: Matrix, atlas: Atlas) -> Wanted:
    setting = f"atlases.{name}.{modality}"
    return Wanted(modality, part.layer, part.name_key, atlas.repeated_features, setting)


def find_paths(patterns: list[str], setting: str) -> list[Path]:
    """Files and folders, those of a pattern sorted by name."""
    found = []
    for pattern in patterns:
        its = matching(pattern)
        if not its:
            raise InputError(f"{setting}: no file is called {pattern}.")
        found += its
    twice = {path for path in found if found.count(path) > 1}
    if twice:
        raise InputError(f"{setting} names {listed(sorted(twice), 3)} more than once.")
    if not found:
        raise InputError(f"{setting} is empty; expected at least one file.")
    return found


def prefixes_of(paths: list[Path]) -> list[str]:
    """ "plate1:" of plates/plate1.h5ad, with folders as far as they tell files apart."""
    parts = [(*path.parts[:-1], path.name if path.is_dir() else path.stem) for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return [f"{name}:" for name in names]


def _refuse_other_numbers(name: str, matrices: Mapping[str, list[CellMatrix]]) -> None:
    numbers = {modality: len(some) for modality, some in matrices.items()}
    if len(set(numbers.values())) > 1:
        raise InputError(
            f"atlases.{name}: {numbers['rna']} files of RNA and {numbers['atac']} of ATAC; with "
            "repeated_cells: prefix the first belongs to the first and so on, so expected as many."
        )


def _translated(
    matrix: CellMatrix, orthologs: Orthologs, path: Path
) -> tuple[CellMatrix, pd.DataFrame]:
    """The same counts under the names of another species, and what became of each gene."""
    found = translate(matrix.features.names, orthologs)
    refuse_none(found.table, orthologs, str(matrix.path), path)
    place = found.place
    if matrix.place is not None:
        place = np.where(matrix.place >= 0, found.place[matrix.place], -1).astype(np.int32)
    first = np.unique(found.place, return_index=True)[1]
    called = matrix.called[first]
    return replace(matrix, features=Features(found.names), place=place, called=called), found.table


def _labels(
    name: str,
    atlas: Atlas,
    matrices: Mapping[str, CellMatrix],
    rows: Mapping[str, np.ndarray | None],
) -> pd.DataFrame:
    """batch, cell_type and donor, and what else was asked for, from the first file that has it."""
    keys = {label: getattr(atlas, f"{label}_key") for label in ("batch", "cell_type", "donor")}
    settings = {label: f"{label}_key" for label in keys}
    keys |= {column: column for column in atlas.obs_columns}
    (matrix, *_), (its, *_) = matrices.values(), rows.values()
    num_cells = len(matrix.cells) if its is None else len(its)
    found = {}
    for label, key in keys.items():
        if key is not None:
            setting = f"atlases.{name}.{settings.get(label, 'obs_columns')}"
            found[label] = _label(key, setting, matrices, rows)
        elif label == "batch":
            found[label] = constant(name, num_cells)
    return pd.DataFrame(found)


def _label(
    key: str,
    setting: str,
    matrices: Mapping[str, CellMatrix],
    rows: Mapping[str, np.ndarray | None],
) -> pd.Categorical:
    for modality, matrix in matrices.items():
        if key in matrix.cells.columns:
            values, its = matrix.cells.label(key), rows[modality]
            return values if its is None else as_labels(values[its])
    columns = dict.fromkeys(c for matrix in matrices.values() for c in matrix.cells.columns)
    paths = dict.fromkeys(str(matrix.path) for matrix in matrices.values())
    raise InputError(
        f"{' and '.join(paths)} has no obs column {key!r}; its columns are "
        f"{listed(columns, 30) or 'none'}. Set {setting}."
    )


def _digest(source: FileCells, keys: np.ndarray) -> str:
    """A hash of what the source gives: names and labels whole, counts by parts of their files."""
    content = hashlib.sha256(keys.tobytes())
    for modality, matrix in source.matrices.items():
        content.update("\n".join(matrix.features.names).encode())
        for array in (matrix.place, source.rows[modality]):
            content.update(b"all" if array is None else array.tobytes())
    for values in (source.labels[label] for label in source.labels):
        content.update("\n".join(values.cat.categories).encode())
        content.update(values.cat.codes.to_numpy(dtype=np.int32).tobytes())
    files = {
        modality: [files_digest(matrix.path), matrix.element]
        for modality, matrix in source.matrices.items()
    }
    labels = list(source.labels)
    return digest(
        [source.dataset, source.species, source.prefix, files, labels, content.hexdigest()]
    )
