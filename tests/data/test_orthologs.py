from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vcpipe.data.orthologs import FATES, read_orthologs, refuse_none, translate
from vcpipe.errors import InputError

REAL = Path(__file__).parents[2].parent / "shared/data/genes/human2mouse_ensembl105.csv"
TABLE = """\
ACTB,Actb
CDK1,Cdk1
HBA1,Hba-a1
HBA1,Hba-a2
CALM1,Calm1
CALM2,Calm1
GAPDH,Foo
GAPDHS,Foo
MT-ND1,
,Gm123
"""


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "human2mouse.csv"
    path.write_text(TABLE)
    return path


def test_every_gene_has_a_fate(path):
    genes = ["Actb", "Hba-a1", "Calm1", "Foo", "Gm123", "Xyz", "Hba-a2"]
    table = translate(np.array(genes), read_orthologs(path)).table
    expected = {
        "Actb": ("ACTB", "one_to_one"),
        "Hba-a1": ("HBA1", "added"),
        "Calm1": ("CALM1", "same_spelling"),
        "Foo": ("", "ambiguous"),
        "Gm123": ("", "none"),
        "Xyz": ("", "unknown"),
        "Hba-a2": ("HBA1", "added"),
    }
    rows = zip(table["ortholog"], table["fate"], strict=True)
    assert dict(zip(table["gene"], rows, strict=True)) == expected
    assert set(table["fate"]) == set(FATES)


def test_genes_of_one_ortholog_share_its_place_and_genes_without_one_stay_apart(path):
    genes = np.array(["Hba-a2", "Xyz", "Actb", "Hba-a1", "Foo"])
    found = translate(genes, read_orthologs(path))
    assert found.names.tolist() == ["HBA1", "", "ACTB", ""]
    assert found.place.tolist() == [0, 1, 2, 0, 3]


def test_the_order_of_the_table_does_not_matter(path, tmp_path):
    genes = np.array(["Hba-a2", "Calm1", "Foo", "Gm123"])
    turned = tmp_path / "turned.csv"
    turned.write_text("\n".join(reversed(TABLE.splitlines())))
    first, second = (translate(genes, read_orthologs(table)) for table in (path, turned))
    pd.testing.assert_frame_equal(first.table, second.table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("A\nB\n", "has 1 columns in line 1; expected two"),
        ("A,a\nB,b,c\n", "has 3 columns in line 2"),
        ("A,\n", "names no gene in its second column"),
        ("", "names no gene in its second column"),
    ],
)
def test_another_table_is_refused(tmp_path, content, message):
    (tmp_path / "o.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_orthologs(tmp_path / "o.csv")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"o.csv does not exist; expected a CSV without a header"):
        read_orthologs(tmp_path / "o.csv")


@pytest.mark.parametrize(
    ("genes", "hint"),
    [
        (["ACTB", "CDK1"], "They stand in the first column: exchange the columns"),
        (["ACTb", "gapdH"], "They differ in upper and lower case only"),
        (["ENSMUSG00000029580"], "Give the table of this species"),
    ],
)
def test_a_table_that_has_none_of_the_genes_is_refused_with_a_hint(path, genes, hint):
    orthologs = read_orthologs(path)
    table = translate(np.array(genes), orthologs).table
    with pytest.raises(InputError, match=rf"a.h5ad: none of {len(genes)} genes .* {hint}"):
        refuse_none(table, orthologs, "a.h5ad", path)


@pytest.mark.skipif(not REAL.exists(), reason="needs the real data")
def test_the_real_table_gives_human_names_to_mouse_genes():
    orthologs = read_orthologs(REAL)
    found = translate(np.array(["Actb", "Gad1", "0610040J01Rik", "Hba-a1"]), orthologs)
    assert found.names.tolist()[:3] == ["ACTB", "GAD1", "C4orf19"]
    assert not orthologs.keys() & {""}
