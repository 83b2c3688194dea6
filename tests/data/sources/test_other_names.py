"""An atlas of one species under the names of another."""

import numpy as np
import pytest
import scipy.sparse as sp

from tests.data.sources.written import Table, write_h5ad, write_tenx_h5
from vcpipe.config.atlases import Atlas
from vcpipe.data.sources.atlas import open_atlas
from vcpipe.errors import InputError


@pytest.fixture
def orthologs(tmp_path) -> str:
    path = tmp_path / "human2mouse.csv"
    path.write_text("ACTB,Actb\nHBA1,Hba-a1\nHBA1,Hba-a2\nCALM1,Calm1\nCALM2,Calm1\n,Gm1\n")
    return str(path)


@pytest.fixture
def table() -> Table:
    counts = np.random.default_rng(0).poisson(1.0, (30, 6)).astype(np.float32)
    genes = ["Hba-a2", "Gm1", "Actb", "Hba-a1", "Xyz", "Calm1"]
    return Table(sp.csr_matrix(counts), [f"c{row}" for row in range(30)], genes)


def open_mouse(path, orthologs, **settings):
    rna = {"paths": [str(path)]}
    (source,) = open_atlas(
        "mouse", Atlas(rna=rna, species="mouse", orthologs=orthologs, **settings)
    )
    return source


def test_counts_of_genes_with_one_ortholog_add_up_and_none_is_lost(tmp_path, table, orthologs):
    source = open_mouse(write_h5ad(tmp_path / "a.h5ad", table), orthologs)
    (chunk,) = source.chunks()
    dense = table.counts.toarray()
    assert source.species == "human"
    assert source.features["rna"].names.tolist() == ["HBA1", "", "ACTB", "", "CALM1"]
    expected = np.stack([dense[:, 0] + dense[:, 3], *dense[:, [1, 2, 4, 5]].T], axis=1)
    np.testing.assert_array_equal(chunk.counts["rna"].toarray(), expected)
    assert source.orthologs["fate"].tolist() == [
        *("added", "none", "one_to_one", "added", "unknown", "same_spelling"),
    ]


def test_repeated_genes_and_peaks_beside_them_do_not_disturb(tmp_path, table, orthologs):
    dense = table.counts.toarray()
    genes = ["Actb", "Hba-a2", "Actb", "Hba-a1", "Xyz", "Gm1"]
    peaks = Table(table.counts[:, :2], table.cells, ["chr1:1-2", "chr1:5-6"], kind="Peaks")
    path = write_tenx_h5(tmp_path / "a.h5", [peaks, Table(table.counts, table.cells, genes)])
    source = open_mouse(path, orthologs, repeated_features="sum")
    (chunk,) = source.chunks()
    assert source.features["rna"].names.tolist() == ["ACTB", "HBA1", "", ""]
    expected = [
        dense[:, [0, 2]].sum(axis=1),
        dense[:, [1, 3]].sum(axis=1),
        dense[:, 4],
        dense[:, 5],
    ]
    np.testing.assert_array_equal(chunk.counts["rna"].toarray(), np.stack(expected, axis=1))


def test_a_value_that_is_no_count_is_named_with_the_gene_of_the_file(tmp_path, table, orthologs):
    dense = table.counts.toarray()
    dense[7, 4] = 0.5
    table = Table(sp.csr_matrix(dense), table.cells, table.features)
    source = open_mouse(write_h5ad(tmp_path / "a.h5ad", table), orthologs)
    with pytest.raises(InputError, match=r"X is 0.5 in cell 'c7', gene 'Xyz'"):
        list(source.chunks())


def test_the_digest_follows_the_orthologs(tmp_path, table, orthologs):
    path = write_h5ad(tmp_path / "a.h5ad", table)
    other = tmp_path / "other.csv"
    other.write_text("ACTC1,Actb\n")
    digests = {open_mouse(path, names).data_digest for names in (orthologs, str(other))}
    assert len(digests) == 2
