import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from scripts import match_genes as script
from vcpipe.config.gears import Conversion
from vcpipe.data.gears import convert
from vcpipe.data.gene_names import (
    FATES,
    count_fates,
    gene_ids_of,
    match_genes,
    read_aliases,
    read_fates,
    read_gene_list,
    renamed_genes,
)
from vcpipe.errors import InputError

SHARED = Path(__file__).parents[3] / "shared/data"
YARS1 = "ENSG00000134684"

# OLD was a name of GENE1 and of GENE2; SWAP is a gene's name now and was GENE3's before.
ALIASES = {
    "YARS1": ("YARS1",),
    "YARS": ("YARS1",),
    YARS1: ("YARS1",),
    "H2AC25": ("H2AC25",),
    "H2AW": ("H2AC25",),
    "HIST3H2A": ("H2AC25",),
    "GENE1": ("GENE1",),
    "GENE2": ("GENE2",),
    "GENE3": ("GENE3",),
    "SWAP": ("SWAP",),
    "OLD": ("GENE1", "GENE2"),
    "ENSG00000000003": ("GENE3",),
}


def matched(genes, tokens, gene_ids=None, aliases=ALIASES) -> list[tuple[str, str]]:
    table = match_genes(genes, gene_ids, {token: i for i, token in enumerate(tokens)}, aliases)
    return list(zip(table["token"], table["fate"], strict=True))


def test_a_gene_of_the_same_name_is_exact_whatever_else_the_name_may_mean():
    assert matched(["YARS", "OLD"], ["OLD", "YARS", "YARS1"]) == [
        ("YARS", "exact"),
        ("OLD", "exact"),
    ]


def test_an_old_name_finds_the_new_one_and_a_new_name_the_old_one():
    assert matched(["YARS"], ["YARS1"]) == [("YARS1", "previous_symbol")]
    assert matched(["YARS1"], ["YARS"]) == [("YARS", "current_symbol")]


def test_two_names_that_are_both_out_of_date_are_one_gene():
    assert matched(["HIST3H2A"], ["H2AW"]) == [("H2AW", "previous_symbol")]


def test_a_symbol_in_use_never_stands_for_the_gene_that_had_it_before(tmp_path):
    rows = "symbol\tensembl_id\tprevious\nGENE3\tENSG00000000003\tSWAP|OLD3\nSWAP\t\t\n"
    (tmp_path / "aliases.tsv.gz").write_bytes(gzip.compress(rows.encode()))
    aliases = read_aliases(tmp_path / "aliases.tsv.gz")
    assert aliases["SWAP"] == ("SWAP",)
    assert matched(["SWAP", "OLD3"], ["GENE3"], aliases=aliases) == [
        ("", "missing"),
        ("GENE3", "previous_symbol"),
    ]


def test_a_symbol_that_several_genes_have_had_is_ambiguous_and_they_are_named():
    table = match_genes(["OLD"], None, {"GENE1": 0}, ALIASES)
    assert table.loc[0, ["token", "token_id", "fate"]].tolist() == ["", -1, "ambiguous"]
    assert table.loc[0, "note"] == "OLD may be GENE1 or GENE2"


def test_several_tokens_of_one_gene_are_ambiguous_unless_one_is_its_current_symbol():
    assert matched(["H2AC25"], ["H2AW", "HIST3H2A"]) == [("", "ambiguous")]
    assert matched(["HIST3H2A"], ["H2AW", "H2AC25"]) == [("H2AC25", "previous_symbol")]


def test_an_ensembl_id_finds_the_symbol_and_a_symbol_the_id():
    assert matched([YARS1], ["YARS"]) == [("YARS", "ensembl_id")]
    assert matched([f"{YARS1}.12"], ["YARS1"]) == [("YARS1", "ensembl_id")]
    assert matched(["YARS"], [YARS1]) == [(YARS1, "ensembl_id")]


def test_versions_of_an_ensembl_id_are_one_gene_even_if_hgnc_lacks_it():
    assert matched(["ENSG00000999999.2"], ["ENSG00000999999"]) == [
        ("ENSG00000999999", "version_suffix")
    ]
    assert matched(["ENSG00000999999"], ["ENSG00000999999.7"]) == [
        ("ENSG00000999999.7", "version_suffix")
    ]
    assert matched(["ENSG00000999999.2_PAR_Y"], ["ENSG00000999999"]) == [("", "missing")]


def test_numbers_of_clones_are_no_versions():
    assert matched(["AC093323.1"], ["AC093323.3"]) == [("", "missing")]


def test_the_id_column_decides_where_the_name_does_not():
    ids = ["ENSG00000000003.4"]
    assert matched(["OLD"], ["GENE1", "GENE3"], ids) == [("GENE3", "ensembl_id")]
    assert matched(["YARS"], ["YARS1", "GENE3"], ids) == [("GENE3", "ensembl_id")]
    assert matched(["YARS"], ["YARS1"], ids) == [("", "missing")]


def test_an_id_that_nobody_knows_leaves_the_decision_to_the_name():
    for unknown in ("ENSG00000777777", "nan", ""):
        assert matched(["YARS"], ["YARS1"], [unknown]) == [("YARS1", "previous_symbol")]


def test_the_gene_of_that_name_keeps_its_token_and_the_other_is_named_as_a_collision():
    table = match_genes(["YARS", "YARS1"], None, {"YARS1": 5}, ALIASES).set_index("gene")
    assert table["fate"].to_dict() == {"YARS": "collision", "YARS1": "exact"}
    assert table["token_id"].to_dict() == {"YARS": -1, "YARS1": 5}
    assert table.loc["YARS", "note"] == "YARS1 is also that of YARS1"


def test_where_no_name_is_exact_every_gene_of_a_collision_is_named_and_none_gets_the_token():
    table = match_genes(["HIST3H2A", "H2AC25"], None, {"H2AW": 0}, ALIASES)
    assert table["fate"].tolist() == ["collision", "collision"]
    assert table["token"].tolist() == ["", ""]
    assert table["note"].tolist() == [
        "H2AW is also that of H2AC25",
        "H2AW is also that of HIST3H2A",
    ]
    assert renamed_genes(table) == {}


def test_a_genes_fate_does_not_depend_on_the_order_of_genes_or_tokens():
    genes, tokens = ["YARS", "SWAP", "OLD", "HIST3H2A", "YARS1", YARS1], ["YARS1", "H2AW", "SWAP"]
    there = dict(zip(genes, matched(genes, tokens), strict=True))
    back = dict(zip(genes[::-1], matched(genes[::-1], tokens[::-1]), strict=True))
    assert there == back


def test_without_aliases_only_exact_names_match():
    genes = ["YARS", "SWAP", "ENSG00000999999.2"]
    assert matched(genes, ["YARS1", "SWAP", "ENSG00000999999"], aliases=None) == [
        ("", "missing"),
        ("SWAP", "exact"),
        ("", "missing"),
    ]


def test_every_gene_is_counted_once_and_every_fate_has_a_row():
    table = match_genes(["YARS", "SWAP", "OLD", "NEW"], None, {"YARS1": 0, "SWAP": 1}, ALIASES)
    fates = count_fates(table).set_index("fate")
    assert list(fates.index) == [*FATES, "matched"]
    assert fates["number"].drop("matched").sum() == 4
    assert fates.loc["matched"].tolist() == [2, 0.5]
    assert renamed_genes(table) == {"YARS": "YARS1"}


def test_the_id_column_is_the_one_that_holds_ensembl_ids():
    var = pd.DataFrame({"gene_id": ["YARS"], "gene_ids": pd.Categorical([f"{YARS1}.3"])})
    assert gene_ids_of(var).tolist() == [f"{YARS1}.3"]
    assert gene_ids_of(var[["gene_id"]]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [("A\nB\nA\n", "A twice"), ("A\n\nB", "an empty line"), ("", "holds nothing")],
)
def test_a_list_that_is_no_list_of_genes_is_refused(tmp_path, text, message):
    (tmp_path / "genes.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_gene_list(tmp_path / "genes.csv")


def test_the_shipped_table_knows_renamed_genes_and_keeps_symbols_in_use():
    aliases = read_aliases()
    assert aliases["YARS"] == aliases[YARS1] == aliases["YARS1"] == ("YARS1",)
    assert aliases["QARS"] == ("EPRS1", "QARS1")
    assert aliases["MARCH1"] == ("MARCHF1",)


def test_another_table_is_refused(tmp_path):
    (tmp_path / "aliases.tsv.gz").write_bytes(gzip.compress(b"symbol\tprevious\nA\tB\n"))
    with pytest.raises(InputError, match="build_gene_aliases"):
        read_aliases(tmp_path / "aliases.tsv.gz")


def test_the_program_reads_a_list_without_header_or_final_newline(tmp_path, capsys):
    (tmp_path / "genes.csv").write_text("YARS\nACTB\nQARS\nNOBODY")
    (tmp_path / "vocab.json").write_text(json.dumps({"YARS1": 0, "ACTB": 1}))
    arguments = ["--genes", "genes.csv", "--vocabulary", "vocab.json", "--out", "fates.tsv"]
    files = [str(tmp_path / word) if "." in word else word for word in arguments]
    script.main([*files, "--summary", str(tmp_path / "summary.tsv")])
    table = pd.read_csv(tmp_path / "fates.tsv", sep="\t", keep_default_na=False)
    assert list(table) == ["gene", "token", "token_id", "fate", "note"]
    assert table["token_id"].tolist() == [0, 1, -1, -1]
    fates = read_fates([tmp_path / "summary.tsv"]).set_index("fate")
    assert set(fates["dataset"]) == {"genes"}
    assert fates.loc["matched", "number"] == 2
    said = capsys.readouterr().out
    assert "1 of 4 genes have a token of their name, 2 with aliases" in said
    assert "QARS: ambiguous, QARS may be EPRS1 or QARS1" in said

    script.main([*files, "gene_aliases=false"])
    table = pd.read_csv(tmp_path / "fates.tsv", sep="\t", keep_default_na=False)
    assert table["fate"].tolist() == ["missing", "exact", "missing", "missing"]


def test_a_converted_screens_ensembl_ids_are_used_and_listed(counts, tmp_path):
    counts.var["gene_ids"] = [f"ENSG{number:011d}.1" for number in range(30)]
    counts.write_h5ad(tmp_path / "counts.h5ad")
    converted = tmp_path / "perturb_processed.h5ad"
    convert(tmp_path / "counts.h5ad", "tiny", Conversion(), converted)
    (tmp_path / "vocab.json").write_text(json.dumps({"ENSG00000000007": 0, "GENE08": 1}))
    files = {"cells": converted, "vocabulary": tmp_path / "vocab.json", "out": tmp_path / "t.tsv"}
    script.main([str(word) for name, path in files.items() for word in (f"--{name}", path)])
    table = pd.read_csv(tmp_path / "t.tsv", sep="\t", keep_default_na=False).set_index("gene")
    assert table.loc["GENE07", ["gene_id", "token", "fate"]].tolist() == [
        "ENSG00000000007.1",
        "ENSG00000000007",
        "version_suffix",
    ]
    assert table.loc["GENE08", "fate"] == "exact"
    assert (table["token"] != "").sum() == 2


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("vocabulary", "exact", "previous", "missing"),
    [("default_census", 17_840, 167, 72), ("default_gene", 17_756, 263, 60)],
)
def test_aliases_find_most_vcc_genes_that_scgpt_knows_by_another_name(
    vocabulary, exact, previous, missing
):
    genes = read_gene_list(SHARED / "vcc/gene_names.csv")
    tokens = json.loads((SHARED / f"genes/scgpt_{vocabulary}_vocab.json").read_text())
    plain = count_fates(match_genes(genes, None, tokens, None)).set_index("fate")["number"]
    assert plain["matched"] == plain["exact"] == exact
    table = match_genes(genes, None, tokens, read_aliases())
    fates = count_fates(table).set_index("fate")["number"]
    assert fates.to_dict() == {
        "exact": exact,
        "previous_symbol": previous,
        "current_symbol": 0,
        "ensembl_id": 0,
        "version_suffix": 0,
        "collision": 0,
        "ambiguous": 1,
        "missing": missing,
        "matched": exact + previous,
    }
    assert table.loc[table["fate"] == "ambiguous", "gene"].tolist() == ["QARS"]
    assert renamed_genes(table)["YARS"] == "YARS1"


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_ids_and_names_of_gencode_lead_to_the_same_token():
    """GENCODE, not HGNC, says here which id has which name."""
    gencode = pd.read_csv(SHARED / "genes/gencode_v44_id2name.csv", names=["id", "name"])
    gencode = gencode.drop_duplicates("name", keep=False)
    tokens = json.loads((SHARED / "genes/scgpt_default_census_vocab.json").read_text())
    aliases = read_aliases()
    by_id = match_genes(gencode["id"], None, tokens, aliases)
    by_name = match_genes(gencode["name"], None, tokens, aliases)
    both = (by_id["token"] != "") & (by_name["token"] != "")
    assert both.sum() > 35_000
    assert (by_id["token"] == by_name["token"])[both].all()
