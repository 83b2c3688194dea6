import csv
from pathlib import Path

import pytest

from vcpipe.config.datasets import Columns
from vcpipe.config.reading import PROJECT
from vcpipe.data.labels import LEFT_OUT, condition_of, holds_control_name, is_control_name
from vcpipe.errors import InputError

GENCODE = Path(__file__).parents[3] / "shared" / "data" / "genes" / "gencode_v44_id2name.csv"


def read(label: str, genes=(), **dataset) -> str:
    return condition_of(label, Columns(**{"control_label": "NT", **dataset}), set(genes))


@pytest.mark.parametrize(
    ("label", "condition"),
    [
        ("NT", "ctrl"),
        ("ctrl", "ctrl"),
        ("A", "A+ctrl"),
        ("A+ctrl", "A+ctrl"),
        ("ctrl+A", "A+ctrl"),
        ("NT+A", "A+ctrl"),
        ("NT+NT", "ctrl"),
        ("A+B", "A+B"),
        ("B+A", "A+B"),
    ],
)
def test_every_way_to_write_a_condition_becomes_one(label, condition):
    assert read(label) == condition


@pytest.mark.parametrize("label", ["A+B+C", "A+A", "A+", "+"])
def test_what_is_no_gene_or_pair_of_genes_is_refused(label):
    with pytest.raises(InputError, match="is no perturbation; expected a gene, or two different"):
        read(label)


@pytest.mark.parametrize("label", ["neg_ctrl", "A/B"])
def test_names_that_gears_files_cannot_hold_are_refused(label):
    with pytest.raises(InputError, match=f"Label '{label}' contains 'ctrl' or '/'"):
        read(label)


def test_several_labels_may_mean_control():
    several = {"control_label": ["NT", "safe"]}
    assert [read(label, **several) for label in ("NT", "safe", "A+safe")] == [
        *("ctrl", "ctrl", "A+ctrl")
    ]


def test_combinations_are_cut_at_the_separator_of_the_screen():
    labels = ("B_A", "A_NT", "NT_NT", "A_ctrl")
    assert [read(label, combination_separator="_") for label in labels] == [
        *("A+B", "A+ctrl", "ctrl", "A+ctrl")
    ]
    with pytest.raises(InputError, match="two different genes as A_B"):
        read("A_B_C", combination_separator="_")


def test_a_measured_gene_may_have_the_separator_in_its_name():
    genes = ("INS", "IGF2", "INS-IGF2", "A")
    hyphen = {"combination_separator": "-"}
    assert read("INS-IGF2", genes, **hyphen) == "INS-IGF2+ctrl"
    assert read("INS-A", genes, **hyphen) == "A+INS"
    assert read("HLA-A-B", ("HLA-A", "B"), **hyphen) == "B+HLA-A"


def test_a_control_may_have_the_separator_in_its_name():
    assert read(
        "A_non_targeting", "A", control_label="non_targeting", combination_separator="_"
    ) == ("A+ctrl")


def test_a_combination_that_can_be_cut_in_two_ways_is_refused():
    genes = ("A", "B_C", "A_B", "C")
    with pytest.raises(
        InputError, match=r"'A_B_C' can be cut at '_' into A and B_C, or into A_B a"
    ):
        read("A_B_C", genes, combination_separator="_")


def test_a_plus_is_refused_where_it_separates_nothing():
    with pytest.raises(InputError, match=r"'A\+B' contains '\+', which joins"):
        read("A+B", combination_separator="_")


@pytest.mark.parametrize(
    ("pattern", "label", "condition"),
    [
        ("([^_]+)_.*", "STAT1_pDS123", "STAT1+ctrl"),
        ("([^_]+)_.*", "NT_2", "ctrl"),
        ("([^_]+)_.*", "NT", "ctrl"),
        ("([^_]+)_.*", "multiplet", LEFT_OUT),
        ("([^_]+)_.*", "multiplet_2", LEFT_OUT),
        (".+__(.+)", "A_B__A_B", "A+B"),
        (".+__(.+)", "NT_A__NT_A", "A+ctrl"),
        (".+__(.+)", "NT_NT__NT_NT", "ctrl"),
    ],
)
def test_a_pattern_takes_the_target_out_of_a_label(pattern, label, condition):
    dataset = {"target_pattern": pattern, "combination_separator": "_"}
    assert read(label, drop_labels=["multiplet"], **dataset) == condition


@pytest.mark.parametrize("label", ["STAT1", "HLA-A_1_x"])
def test_a_pattern_must_match_the_whole_label(label):
    with pytest.raises(InputError, match=rf"Label '{label}' does not match target_pattern '.*d\+'"):
        read(label, target_pattern=r"([A-Z0-9]+)_\d+")


@pytest.mark.parametrize(
    "label",
    [
        *("non-targeting", "Non-Targeting", "non_targeting", "Non-Targeting Control_0001", "NT"),
        *(
            "NT_12",
            "NTC",
            "sgNTC-1",
            "NegCtrl0",
            "negative control",
            "ctrl",
            "Control",
            "control_3",
        ),
        *("non-targeting_00023|non-targeting_00184", "scramble", "safe-harbor", "Mock", "DMSO"),
        "NegCtrl0_NegCtrl10__NegCtrl0_NegCtrl10",
    ],
)
def test_usual_names_of_controls_are_known_in_every_spelling(label):
    assert is_control_name(label)


@pytest.mark.parametrize(
    "label", ["NT5", "NT5E", "NTS", "WT1", "NEGR1", "SAFB", "negative", "unassigned", "*", ""]
)
def test_genes_and_cells_without_a_guide_are_no_controls(label):
    assert not is_control_name(label)


@pytest.mark.parametrize("label", ["NT_1", "my DMSO", "K562 wild-type", "AAVS1_safe_harbour_x"])
def test_a_usual_name_of_controls_is_found_within_a_label(label):
    assert holds_control_name(label)


@pytest.mark.parametrize("label", ["parental", "negative", "NT5E", "WT1", "STAT1", ""])
def test_a_short_name_of_controls_within_a_word_says_nothing(label):
    assert not holds_control_name(label)


def test_no_gene_that_ships_is_called_like_a_control():
    genes = (PROJECT / "resources" / "gene_symbols.txt").read_text().split()
    assert not [gene for gene in genes if is_control_name(gene)]


@pytest.mark.skipif(not GENCODE.exists(), reason="needs shared/data")
def test_only_one_human_gene_is_called_like_a_control():
    with GENCODE.open() as lines:
        genes = {symbol for _, symbol in csv.reader(lines)}
    assert {gene for gene in genes if is_control_name(gene)} == {"CTRL"}
