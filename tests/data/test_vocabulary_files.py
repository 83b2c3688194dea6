import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpipe.config.vocabulary import SpecialTokens
from vcpipe.data.vocabularies import Vocabularies
from vcpipe.data.vocabulary import Vocabulary, numbered
from vcpipe.data.vocabulary_files import (
    read_gene_vocabulary,
    read_labels,
    read_species,
    read_vocabularies,
    write_species,
    write_vocabularies,
)
from vcpipe.errors import InputError

SPECIAL = SpecialTokens().names()
SCCONCEPT = """gene_id,gene_name,token
<cls>,,0
<pad>,,1
ENSG00000000003,TSPAN6,2
ENSG00000000005,TNMD,3
ENSG00000000419,NA,4
"""


def vocabularies(**changes):
    parts = {
        "special_tokens": SpecialTokens(),
        "genes": {"human": numbered(SPECIAL, ["A1BG", "ENSG00000999999.2", "NA", "YARS1"])},
        "gene_ids": {"human": {"A1BG": "ENSG00000121410"}},
        "gene_chromosome": {"human": {"A1BG": "chr19"}},
        "peaks": numbered(SPECIAL, ["chr1:1-5", "chr10:2-3"]),
        "chromosomes": numbered(SPECIAL, ["chr1", "chr10", "chr19"]),
        "batches": numbered([], ["1", "2"]),
        "cell_types": numbered([], ["B cell", "T cell"]),
    }
    return Vocabularies(**(parts | changes))


def test_reading_back_gives_the_same_vocabularies(tmp_path):
    written = vocabularies()
    write_vocabularies(tmp_path, written)
    read = read_vocabularies(tmp_path)
    assert read == written
    assert read.digest == written.digest
    names = {path.name for path in tmp_path.rglob("*.*")}
    assert names == {
        "vocab.json",
        "rna_vocab.json",
        "atac_vocab.json",
        "chr_vocab.json",
        "cell_type_vocab.json",
        "batch_vocab.json",
        "gene2chr.json",
        "human.csv",
        "vocabularies.json",
    }


@settings(deadline=None, max_examples=25, derandomize=True)  # each example writes nine files
@given(st.sets(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1), min_size=1))
def test_any_name_is_read_back(tmp_path_factory, names):
    names = sorted(names - set(SPECIAL))
    every = numbered(SPECIAL, names)
    ids = {name: f"ENSG{number:011d}" for number, name in enumerate(names[::2])}
    written = vocabularies(
        genes={"human": every},
        gene_ids={"human": ids},
        gene_chromosome={"human": dict.fromkeys(names, "chr1")},
        batches=numbered([], names),
    )
    folder = tmp_path_factory.mktemp("vocabularies")
    write_vocabularies(folder, written)
    assert read_vocabularies(folder) == written


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "vocabularies.json").write_text("[]")
    with pytest.raises(InputError, match="was not written by build_vocabulary"):
        read_vocabularies(tmp_path)


def test_several_species_and_no_peaks_are_read_back(tmp_path):
    both = {"human": numbered(SPECIAL, ["A"]), "mouse": numbered(SPECIAL, ["a", "b"])}
    written = vocabularies(genes=both, gene_ids={"human": {}, "mouse": {}}, peaks=None)
    write_vocabularies(tmp_path, written)
    assert read_vocabularies(tmp_path) == written
    assert not (tmp_path / "vocab.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"genes": {"human": numbered(SPECIAL, ["A1BG"])}},
        {"gene_ids": {"human": {}}},
        {"gene_chromosome": {}},
        {"peaks": None},
        {"chromosomes": numbered(SPECIAL, ["chr1"])},
        {"batches": numbered([], ["2", "1"])},
        {"cell_types": numbered([], ["B cell"])},
        {"special_tokens": SpecialTokens(pad={"token": "<pad>", "value": 7})},
    ],
)
def test_the_digest_covers_every_part(change):
    assert vocabularies(**change).digest != vocabularies().digest


def test_the_digest_does_not_depend_on_the_order_of_names():
    ids = vocabularies().genes["human"].ids
    turned = Vocabulary(dict(reversed(ids.items())))
    assert vocabularies(genes={"human": turned}).digest == vocabularies().digest


def test_files_that_were_changed_are_refused(tmp_path):
    write_vocabularies(tmp_path, vocabularies())
    labels = tmp_path / "cell_type_vocab.json"
    before = labels.read_text()
    labels.write_text('{"T cell": 0, "B cell": 1}')
    with pytest.raises(InputError, match="was changed after build_vocabulary wrote it"):
        read_vocabularies(tmp_path)
    labels.write_text(before)
    path = tmp_path / "vocab.json"
    path.write_text(path.read_text().replace("YARS1", "YARS2"))
    with pytest.raises(InputError, match=r"vocab\.json and .*species differ"):
        read_vocabularies(tmp_path)


def test_scgpts_and_epifoundations_files_are_plain_names_and_numbers(tmp_path):
    write_vocabularies(tmp_path, vocabularies())
    ids = json.loads((tmp_path / "vocab.json").read_text())
    assert ids == json.loads((tmp_path / "rna_vocab.json").read_text())
    assert list(ids.values()) == list(range(len(ids)))
    assert {"<pad>", "<cls>", "<eoc>"} <= set(ids)
    assert json.loads((tmp_path / "cell_type_vocab.json").read_text()) == {"B cell": 0, "T cell": 1}
    assert json.loads((tmp_path / "gene2chr.json").read_text()) == {"A1BG": "chr19"}
    assert read_gene_vocabulary(tmp_path / "rna_vocab.json", ["<pad>"])[0].ids == ids


def test_scconcepts_table_begins_with_cls_and_padding(tmp_path):
    write_vocabularies(tmp_path, vocabularies())
    lines = (tmp_path / "species/human.csv").read_text().splitlines()
    assert lines[:3] == ["gene_id,gene_name,token", "<cls>,,0", "<pad>,,1"]
    assert lines[5:] == [
        "ENSG00000121410,A1BG,4",
        "ENSG00000999999.2,ENSG00000999999.2,5",
        "NA,NA,6",
        "YARS1,YARS1,7",
    ]


def test_scconcepts_table_round_trips(tmp_path):
    (tmp_path / "in.csv").write_text(SCCONCEPT)
    vocabulary, gene_ids = read_species(tmp_path / "in.csv")
    assert vocabulary.names() == ["<cls>", "<pad>", "TSPAN6", "TNMD", "NA"]
    assert gene_ids["NA"] == "ENSG00000000419"
    write_species(tmp_path / "out.csv", vocabulary, gene_ids, ["<cls>", "<pad>"])
    assert (tmp_path / "out.csv").read_text() == SCCONCEPT


def test_genes_of_one_name_are_called_by_their_ids(tmp_path):
    (tmp_path / "v.csv").write_text(SCCONCEPT.replace("TNMD", "TSPAN6"))
    vocabulary, _ = read_species(tmp_path / "v.csv")
    assert vocabulary.names()[2:4] == ["ENSG00000000003", "ENSG00000000005"]


def test_a_table_without_names_is_read_by_ids(tmp_path):
    (tmp_path / "v.csv").write_text("gene_id,token\n<cls>,0\n<pad>,1\nENSG00000000003,2\n")
    vocabulary, gene_ids = read_species(tmp_path / "v.csv")
    assert vocabulary.names()[2:] == ["ENSG00000000003"]
    assert gene_ids == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TNMD,3", "TNMD,5", r"tokens that are not 0\.\.4"),
        ("TNMD,3", "TNMD,2", r"tokens that are not 0\.\.4"),
        ("TNMD,3", "TNMD,three", "a token that is no integer"),
        ("ENSG00000000005,TNMD", "ENSG00000000003,TSPAN6", "lists ENSG00000000003 twice"),
        ("<pad>,,1", "<PAD>,,1", "lacks <pad>"),
        ("token", "id", "columns gene_id, gene_name, id; expected"),
    ],
)
def test_a_table_that_is_no_vocabulary_is_refused(old, new, message, tmp_path):
    (tmp_path / "v.csv").write_text(SCCONCEPT.replace(old, new))
    with pytest.raises(InputError, match=message):
        read_gene_vocabulary(tmp_path / "v.csv", ["<cls>", "<pad>"])


def test_labels_are_numbered_from_zero(tmp_path):
    (tmp_path / "batch_vocab.json").write_text('{"a": 1, "b": 2}')
    with pytest.raises(InputError, match=r"ids are not 0\.\.1"):
        read_labels(tmp_path / "batch_vocab.json")
