import json

import pytest

from vcpipe.data.chromosomes import chromosome, read_gene_chromosomes
from vcpipe.errors import InputError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1", "chr1"),
        ("chr1", "chr1"),
        ("CHR22", "chr22"),
        ("x", "chrX"),
        ("MT", "chrM"),
        ("chrM", "chrM"),
        ("chrMT", "chrM"),
        ("2L", "chr2L"),
        ("GL000194.1", "GL000194.1"),
        ("chrUn_KI270742v1", "chrUn_KI270742v1"),
    ],
)
def test_a_chromosome_has_one_spelling(name, expected):
    assert chromosome(name) == expected


def test_genes_that_lie_nowhere_or_on_several_have_no_chromosome(tmp_path):
    (tmp_path / "t.csv").write_text(
        "gene,chr\nA,7\nB,reserved\nC,3 or 19\nD,2cen-\nNA,chrX\nE,X\nE,Y\nF,1\nF,chr1\nG,19q13\n"
    )
    found = read_gene_chromosomes(tmp_path / "t.csv")
    assert found == {"A": "chr7", "D": "chr2", "NA": "chrX", "F": "chr1", "G": "chr19"}


def test_gene2chr_json_is_read(tmp_path):
    (tmp_path / "gene2chr.json").write_text(json.dumps({"A": "1", "B": "chrM"}))
    assert read_gene_chromosomes(tmp_path / "gene2chr.json") == {"A": "chr1", "B": "chrM"}


@pytest.mark.parametrize("content", ['["A"]', '{"A": 1}'])
def test_json_of_another_form_is_refused(content, tmp_path):
    (tmp_path / "gene2chr.json").write_text(content)
    with pytest.raises(InputError, match="expected an object of gene: chromosome"):
        read_gene_chromosomes(tmp_path / "gene2chr.json")


def test_a_table_without_chromosomes_is_refused(tmp_path):
    (tmp_path / "t.tsv").write_text("gene\tplace\nA\t1\n")
    with pytest.raises(InputError, match="columns gene, place; expected one with genes"):
        read_gene_chromosomes(tmp_path / "t.tsv")
