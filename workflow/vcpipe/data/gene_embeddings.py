"""Pretrained vectors of genes (scConcept's ESM2, scModelForge's), laid beside a vocabulary."""

# G genes of a file, V tokens, D width

import csv
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from vcpipe.data.feature_ids import aliases_of
from vcpipe.data.gene_names import match_genes
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError, listed
from vcpipe.files import existing, writing

WHAT = "vectors of genes: CSV, .npy with a .txt of genes, or .safetensors"


def read_gene_embeddings(path: Path) -> tuple[list[str], np.ndarray]:
    """Names and vectors (float32 [G, D]) of any file but .pt, which needs torch."""
    path = existing(Path(path), WHAT)
    readers = {".csv": _read_csv, ".npy": _read_npy, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise InputError(f"{path} ends in {path.suffix!r}; expected {WHAT}, or .pt.")
    names, matrix = readers[path.suffix](path)
    return checked(path, names, matrix)


def checked(path: Path, names: list[str], matrix: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Refuse what is not one finite vector of one width for every gene."""
    if matrix.ndim != 2 or not matrix.size or matrix.dtype.kind not in "fiu":
        raise InputError(
            f"{path} holds {matrix.dtype} of shape {matrix.shape}; expected numbers, genes × width."
        )
    if len(names) != len(matrix):
        raise InputError(
            f"{path} has {len(matrix)} vectors and {len(names)} genes; expected one name each."
        )
    twice = [name for name, number in Counter(names).items() if number > 1 or not name]
    if twice:
        shown = listed([name or "an empty name" for name in twice])
        raise InputError(f"{path} has several vectors for {shown}; expected each gene once.")
    with np.errstate(over="ignore"):
        matrix = matrix.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(wrong):
        raise InputError(
            f"{path}: the vectors of {listed([names[row] for row in wrong])} hold NaN or infinite "
            "values; expected finite numbers. Leave genes without a vector out of the file."
        )
    return names, matrix


def _read_csv(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        table = pd.read_csv(
            path,
            header=None,
            encoding="utf-8-sig",
            skiprows=int(_has_header(path)),
            dtype={0: str},
            keep_default_na=False,
            na_values={},
            low_memory=False,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no table of one width ({error}); expected {WHAT}.") from error
    names, numbers = table[0].tolist(), table.drop(columns=0)
    for column in numbers:
        if numbers[column].dtype.kind not in "fiu":
            row = int(np.argmax(pd.to_numeric(numbers[column], errors="coerce").isna()))
            raise InputError(
                f"{path}: column {column + 1} of {names[row]} is {numbers[column][row]!r}; "
                "expected a number."
            )
    return names, numbers.to_numpy()


def _has_header(path: Path) -> bool:
    """Whether the first line names columns: by words, nothing, or 0, 1, 2, ... (pandas)."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        first, *rest = next(csv.reader(file), [""])
    try:
        numbers = [float(field) for field in rest]
    except ValueError:
        return True
    columns = list(range(len(rest) + 1))
    return not first or (len(rest) > 1 and numbers in (columns[:-1], columns[1:]))


def _read_npy(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        return names_beside(path), np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no array of numbers ({error}); expected {WHAT}.") from error


def names_beside(path: Path) -> list[str]:
    """The lines of the .txt of the same name: the genes of the rows."""
    names = existing(path.with_suffix(".txt"), f"the genes of {path.name}, one a line")
    return names.read_text(encoding="utf-8-sig").splitlines()


def _read_safetensors(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as file:
            about, keys = file.metadata() or {}, list(file.keys())
            if len(keys) != 1:
                raise InputError(f"{path} holds {len(keys)} tensors; expected one, genes × width.")
            matrix = file.get_tensor(keys[0])
    except (SafetensorError, TypeError) as error:
        raise InputError(f"{path} is no safetensors file of numpy's types ({error}).") from error
    names = json.loads(about["genes"]) if "genes" in about else names_beside(path)
    return names, matrix


def align_gene_embeddings(
    names: list[str],
    matrix: np.ndarray,
    vocabulary: Vocabulary,
    gene_ids: Mapping[str, str],
    species: str,
    gene_aliases: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of tokens (float32 [V, D]) and which were found; the others are 0 and no vectors.

    A token has the vector of its name, of its Ensembl id, or of a former symbol.
    """
    rows = {name: row for row, name in enumerate(names)}
    tokens = vocabulary.names()
    ids = [gene_ids.get(token, "") for token in tokens]
    aliases = aliases_of(species, gene_ids) if gene_aliases else None
    found = match_genes(tokens, ids, rows, aliases)["token_id"].to_numpy()
    if not (found >= 0).any():
        raise InputError(
            f"none of the {len(rows)} genes with a vector ({listed(rows, 3)}) is one of the "
            f"{len(tokens)} tokens of {species} ({listed(tokens[-3:])}). Is the species the same?"
        )
    aligned = np.zeros((len(tokens), matrix.shape[1]), dtype=np.float32)
    aligned[found >= 0] = matrix[found[found >= 0]]
    return aligned, found >= 0


def write_aligned(path: Path, aligned: np.ndarray, found: np.ndarray, digest: str) -> None:
    """Write vectors [V, D] and which of them are some [V], for one vocabulary (its digest)."""
    with writing(path) as partial:
        save_file({"embeddings": aligned, "found": found}, partial, {"vocabulary_digest": digest})


def read_aligned(path: Path, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Read what write_aligned wrote for this vocabulary."""
    with safe_open(existing(path, "what build_vocabulary writes"), framework="numpy") as file:
        digest = file.metadata()["vocabulary_digest"]
    if digest != vocabulary.digest:
        raise InputError(
            f"{path} was written for vocabulary {digest}, but this one is {vocabulary.digest}. Run "
            "build_vocabulary again."
        )
    tensors = load_file(path)
    return tensors["embeddings"], tensors["found"]
