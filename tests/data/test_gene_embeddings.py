import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from vcpipe.data.gene_embeddings import (
    align_gene_embeddings,
    read_aligned,
    read_gene_embeddings,
    write_aligned,
)
from vcpipe.data.vocabulary import build_vocabulary
from vcpipe.errors import InputError

GENES = ["MYC", "ENSG00000134684", "NA"]
MATRIX = np.arange(6, dtype=np.float32).reshape(3, 2) + 0.5


def write(folder, kind, genes=GENES, matrix=MATRIX):
    """The same vectors as a file of each kind; a kind may say how its genes are named."""
    path = folder / f"esm2.{kind.split('+')[0]}"
    if kind == "csv":
        pd.DataFrame(matrix, index=genes).to_csv(path)
    elif kind == "csv+noheader":
        pd.DataFrame(matrix, index=genes).to_csv(path, header=False)
    elif kind == "npy":
        np.save(path, matrix)
    else:
        named = {"genes": json.dumps(genes)} if kind == "safetensors+genes" else None
        save_file({"embeddings": matrix}, path, named)
    if kind in ("npy", "safetensors"):
        path.with_suffix(".txt").write_text("\n".join(genes))
    return path


@pytest.mark.parametrize("kind", ["csv", "csv+noheader", "npy", "safetensors", "safetensors+genes"])
def test_every_kind_of_file_gives_the_same_vectors(kind, tmp_path):
    genes, matrix = read_gene_embeddings(write(tmp_path, kind))
    assert genes == GENES
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix, MATRIX)


def test_a_byte_order_mark_is_no_part_of_a_gene(tmp_path):
    for header in ("", "gene,d0,d1\n"):
        path = tmp_path / "e.csv"
        path.write_text(f"{header}MYC,0.5,2\n", encoding="utf-8-sig")
        assert read_gene_embeddings(path)[0] == ["MYC"]


def test_a_header_of_words_is_no_gene(tmp_path):
    (tmp_path / "e.csv").write_text("gene_id,d0,d1\nMYC,1,2\n")
    genes, matrix = read_gene_embeddings(tmp_path / "e.csv")
    assert (genes, matrix.tolist()) == (["MYC"], [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("g,a,b\nMYC,1,2\nMYC,3,4\n", "several vectors for MYC"),
        ("g,a,b\nMYC,1,x\n", "column 3 of MYC is 'x'; expected a number"),
        ("g,a,b\nMYC,1,\n", "column 3 of MYC is ''; expected a number"),
        ("g,a,b\nMYC,1,nan\n", "MYC .*(NaN|expected a number)"),
        ("g,a,b\nMYC,1,inf\n", "MYC hold NaN or infinite"),
        ("g,a,b\nMYC,1,1e39\n", "MYC hold NaN or infinite"),
        ("g,a,b\nMYC,1,2\nGATA1,1,2,3\n", "no table of one width"),
        ("g,a,b\nMYC,1,2\nGATA1,1\n", "GATA1 .*(NaN|expected a number)"),
        ("", "no table of one width"),
        ("g\nMYC\n", "shape"),
    ],
)
def test_a_table_that_holds_no_vectors_is_refused(content, message, tmp_path):
    (tmp_path / "e.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_gene_embeddings(tmp_path / "e.csv")


def test_arrays_need_one_name_for_each_vector(tmp_path):
    path = write(tmp_path, "npy", GENES[:2])
    with pytest.raises(InputError, match="has 3 vectors and 2 genes"):
        read_gene_embeddings(path)
    path.with_suffix(".txt").unlink()
    with pytest.raises(InputError, match=r"esm2\.txt does not exist"):
        read_gene_embeddings(path)


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros((3, 2, 1)), np.array([["a"]] * 3), np.array([{}] * 3)]
)
def test_arrays_of_another_kind_are_refused(array, tmp_path):
    path = write(tmp_path, "npy")
    np.save(path, array)
    with pytest.raises(InputError, match=r"expected (numbers|vectors)"):
        read_gene_embeddings(path)


def test_one_tensor_is_expected_in_safetensors(tmp_path):
    path = tmp_path / "e.safetensors"
    save_file({"a": MATRIX, "b": MATRIX}, path)
    with pytest.raises(InputError, match="holds 2 tensors"):
        read_gene_embeddings(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(InputError, match="no safetensors file"):
        read_gene_embeddings(path)


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "e.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"ends in '\.pkl'"):
        read_gene_embeddings(tmp_path / "e.pkl")


def test_vectors_are_aligned_by_name_former_symbol_and_ensembl_id():
    vocabulary = build_vocabulary(["MYC", "YARS", "GATA1"], ["<cls>", "<pad>"])
    names = ["ENSG00000136997.5", "YARS1", "other"]
    aligned, found = align_gene_embeddings(names, MATRIX, vocabulary, {}, "human")
    assert found.tolist() == [False, False, False, True, True]
    assert np.array_equal(aligned[3:], MATRIX[:2])
    assert not aligned[~found].any()
    renamed = align_gene_embeddings(["MYC", "YARS1"], MATRIX[:2], vocabulary, {}, "human", False)
    assert renamed[1].tolist() == [False, False, False, True, False]


def test_ids_that_only_the_vocabulary_knows_align_mouse_genes():
    vocabulary = build_vocabulary(["Sst", "Vip"], ["<cls>", "<pad>"])
    ids = {"Sst": "ENSMUSG00000004366"}
    aligned, found = align_gene_embeddings(
        ["ENSMUSG00000004366"], MATRIX[:1], vocabulary, ids, "mouse"
    )
    assert found.tolist() == [False, False, True, False]
    assert np.array_equal(aligned[2], MATRIX[0])


def test_vectors_of_another_species_are_refused():
    vocabulary = build_vocabulary(["MYC"], ["<cls>", "<pad>"])
    with pytest.raises(InputError, match="none of the 1 genes with a vector"):
        align_gene_embeddings(["Sst"], MATRIX[:1], vocabulary, {}, "human")


def test_aligned_vectors_belong_to_one_vocabulary(tmp_path):
    vocabulary = build_vocabulary(["MYC"], ["<cls>", "<pad>"])
    aligned, found = align_gene_embeddings(["MYC"], MATRIX[:1], vocabulary, {}, "human")
    write_aligned(tmp_path / "human.safetensors", aligned, found, vocabulary.digest)
    read = read_aligned(tmp_path / "human.safetensors", vocabulary)
    assert np.array_equal(read[0], aligned)
    assert np.array_equal(read[1], found)
    with pytest.raises(InputError, match="was written for vocabulary"):
        read_aligned(tmp_path / "human.safetensors", build_vocabulary(["A"], ["<cls>", "<pad>"]))
