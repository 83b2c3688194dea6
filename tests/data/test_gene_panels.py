import pytest

from vcpipe.data.gene_panels import read_panel
from vcpipe.errors import InputError


def test_a_panel_is_a_column_of_ensembl_ids_or_one_gene_a_line(tmp_path):
    (tmp_path / "a.csv").write_text("name,Ensembl_ID\nMYC,ENSG1\nX,ENSG2\nMYC,ENSG1\nY,\n")
    (tmp_path / "b.txt").write_text("MYC\nNA\n")
    assert read_panel(tmp_path / "a.csv") == ["ENSG1", "ENSG2"]
    assert read_panel(tmp_path / "b.txt") == ["MYC", "NA"]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "a.csv").write_text("Ensembl_ID,name\nENSG1,MYC\n", encoding="utf-8-sig")
    (tmp_path / "b.txt").write_text("MYC\nYARS\n", encoding="utf-8-sig")
    assert read_panel(tmp_path / "a.csv") == ["ENSG1"]
    assert read_panel(tmp_path / "b.txt") == ["MYC", "YARS"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gene_id,x\nENSG1,1\n", "columns gene_id, x; expected Ensembl_ID"),
        ("Ensembl_ID\n", "names no gene"),
        ("", "holds nothing"),
    ],
)
def test_a_file_that_is_no_panel_is_refused(content, message, tmp_path):
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_panel(tmp_path / "p.csv")
