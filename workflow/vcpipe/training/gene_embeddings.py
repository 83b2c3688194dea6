"""Pretrained vectors of genes that torch has saved, read without running what is in the file."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd

from vcpipe.data import gene_embeddings
from vcpipe.data.gene_embeddings import (
    align_gene_embeddings,
    checked,
    names_beside,
    write_aligned,
)
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.errors import InputError
from vcpipe.files import existing, writing


def read_gene_embeddings(path: Path) -> tuple[list[str], np.ndarray]:
    """Names and vectors of any file of gene_embeddings: .pt here, the others without torch."""
    if Path(path).suffix == ".pt":
        return read_torch_embeddings(Path(path))
    return gene_embeddings.read_gene_embeddings(path)


def read_torch_embeddings(path: Path) -> tuple[list[str], np.ndarray]:
    """Read {gene: vector}, or one matrix with a .txt of genes beside it."""
    # Only here: files of other kinds are read where torch is not installed.
    import torch

    try:
        held = torch.load(existing(path, "vectors of genes"), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{path} holds more than tensors, or is damaged ({str(error).splitlines()[0]}); "
            "expected {gene: vector}, or a matrix with a .txt of genes."
        ) from error
    if isinstance(held, torch.Tensor):
        return checked(path, names_beside(path), held.float().numpy())
    tensors = list(held.values()) if isinstance(held, dict) else []
    if not tensors or not all(isinstance(t, torch.Tensor) and t.ndim == 1 for t in tensors):
        raise InputError(f"{path} holds no {{gene: vector}} and no matrix.")
    widths = sorted({len(tensor) for tensor in tensors})
    if len(widths) > 1:
        raise InputError(f"{path} has vectors of widths {widths}; expected one width.")
    return checked(path, [str(name) for name in held], torch.stack(tensors).float().numpy())


def write_gene_embeddings(
    folder: Path, vocabularies: Vocabularies, files: dict[str, str], gene_aliases: bool = True
) -> pd.DataFrame:
    """Align each species' file, write <species>.safetensors, and count genes with a vector."""
    rows = []
    for species, path in sorted(files.items()):
        vocabulary = vocabularies.of("rna", species)
        names, matrix = read_gene_embeddings(Path(path))
        aligned, found = align_gene_embeddings(
            names, matrix, vocabulary, vocabularies.gene_ids[species], species, gene_aliases
        )
        write_aligned(folder / f"{species}.safetensors", aligned, found, vocabulary.digest)
        genes = vocabulary.encode(vocabularies.features(vocabulary))
        row = {"species": species, "path": path, "width": matrix.shape[1], "genes": len(genes)}
        rows.append(row | {"found": int(found[genes].sum()), "share": float(found[genes].mean())})
    table = pd.DataFrame(rows)
    with writing(folder / "coverage.tsv") as partial:
        table.to_csv(partial, sep="\t", index=False)
    return table
