import numpy as np
import pandas as pd
import pytest
import torch

from vcpipe.config.vocabulary import SpecialTokens
from vcpipe.data.gene_embeddings import read_aligned
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.data.vocabulary import numbered
from vcpipe.errors import InputError
from vcpipe.training.gene_embeddings import read_gene_embeddings, write_gene_embeddings


class Anything:
    pass


def test_vectors_by_gene_and_a_matrix_with_names_are_read(tmp_path):
    matrix = torch.arange(4, dtype=torch.float16).reshape(2, 2)
    torch.save(dict(zip("AB", matrix, strict=True)), tmp_path / "dict.pt")
    torch.save(matrix, tmp_path / "matrix.pt")
    (tmp_path / "matrix.txt").write_text("A\nB\n")
    for path in (tmp_path / "dict.pt", tmp_path / "matrix.pt"):
        genes, vectors = read_gene_embeddings(path)
        assert genes == ["A", "B"]
        assert vectors.dtype == np.float32
        assert vectors.tolist() == matrix.tolist()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (Anything(), "more than tensors"),
        ({"A": torch.zeros(2), "B": torch.zeros(3)}, r"widths \[2, 3\]"),
        ({"A": 1.0}, "no {gene: vector}"),
        ({}, "no {gene: vector}"),
        ({"A": torch.tensor([float("nan")])}, "hold NaN"),
    ],
)
def test_files_of_another_kind_are_refused(held, message, tmp_path):
    torch.save(held, tmp_path / "e.pt")
    with pytest.raises(InputError, match=message):
        read_gene_embeddings(tmp_path / "e.pt")


def test_each_species_gets_its_file_and_its_coverage(tmp_path):
    special = SpecialTokens()
    genes = {"mouse": numbered(special.names(), ["Sst", "Vip"])}
    none = numbered([], [])
    chromosomes = numbered(special.names(), [])
    held = Vocabularies(special, genes, {"mouse": {}}, {}, None, chromosomes, none, none)
    pd.DataFrame([[0.5, 1.5]], index=["Vip"]).to_csv(tmp_path / "e.csv")
    table = write_gene_embeddings(tmp_path / "out", held, {"mouse": str(tmp_path / "e.csv")})
    assert table[["genes", "found", "share", "width"]].values.tolist() == [[2, 1, 0.5, 2]]
    vectors, found = read_aligned(tmp_path / "out/mouse.safetensors", genes["mouse"])
    assert found.tolist() == [False] * 5 + [True]
    assert vectors[5].tolist() == [0.5, 1.5]
    with pytest.raises(InputError, match="no vocabulary for the genes of 'human'"):
        write_gene_embeddings(tmp_path / "out", held, {"human": "e.csv"})
