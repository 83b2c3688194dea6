import pytest

from vcpipe.data.gene_names import read_aliases
from vcpipe.data.hgnc import read_hgnc, write_aliases
from vcpipe.errors import InputError

COMPLETE_SET = """hgnc_id\tsymbol\tname\tstatus\tprev_symbol\tensembl_gene_id
HGNC:2\tYARS1\ttyrosyl-tRNA synthetase 1\tApproved\tYARS\tENSG00000134684
HGNC:1\tH2AC25\tH2A clustered histone 25\tApproved\t"HIST3H2A|H2AW"\tENSG00000181218
HGNC:3\tNAN\tno gene, a name that pandas would miss\tApproved\t\t
"""
CUSTOM_DOWNLOAD = """HGNC ID\tApproved symbol\tStatus\tPrevious symbols\tEnsembl gene ID
HGNC:2\tYARS1\tApproved\tYARS\tENSG00000134684
HGNC:1\tH2AC25\tApproved\tHIST3H2A, H2AW\tENSG00000181218
HGNC:3\tNAN\tApproved\t\t
HGNC:4\tGONE1\tEntry Withdrawn\tGONE0\t
"""


@pytest.mark.parametrize("text", [COMPLETE_SET, CUSTOM_DOWNLOAD])
def test_both_of_hgncs_formats_give_the_same_table(tmp_path, text):
    (tmp_path / "hgnc.txt").write_text(text)
    assert read_hgnc(tmp_path / "hgnc.txt").values.tolist() == [
        ["H2AC25", "ENSG00000181218", "H2AW|HIST3H2A"],
        ["NAN", "", ""],
        ["YARS1", "ENSG00000134684", "YARS"],
    ]


def test_the_written_table_is_the_same_each_time_and_can_be_read(tmp_path):
    (tmp_path / "hgnc.txt").write_text(COMPLETE_SET)
    for name in ("one", "two"):
        write_aliases(tmp_path / name, read_hgnc(tmp_path / "hgnc.txt"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    aliases = read_aliases(tmp_path / "one")
    assert aliases["H2AW"] == aliases["ENSG00000181218"] == ("H2AC25",)
    assert aliases["NAN"] == ("NAN",)
    assert "" not in aliases


def test_a_table_without_previous_symbols_is_refused(tmp_path):
    (tmp_path / "hgnc.txt").write_text(COMPLETE_SET.replace("prev_symbol", "alias_symbol"))
    with pytest.raises(InputError, match="no column prev_symbol or Previous symbols"):
        read_hgnc(tmp_path / "hgnc.txt")


def test_a_symbol_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "hgnc.txt").write_text(COMPLETE_SET.replace("NAN", "YARS1"))
    with pytest.raises(InputError, match="lists YARS1 twice"):
        read_hgnc(tmp_path / "hgnc.txt")
