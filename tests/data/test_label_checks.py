import re

import pytest

from vcpipe.config.datasets import Columns
from vcpipe.data.label_checks import check_labels
from vcpipe.errors import InputError

GENES = {"A", "B", "C", "HLA-A"}


def check(*labels: str, **dataset) -> None:
    """Check a screen of 5 cells a label whose control is NT unless another is given."""
    columns = Columns(**{"perturbation_key": "gene", "control_label": "NT", **dataset})
    check_labels(dict.fromkeys(labels, 5), GENES, "tiny", columns)


def test_controls_genes_and_combinations_are_what_is_expected():
    check("NT", "A", "A+B", "B+NT", "ctrl+C", "HLA-A", "XYZ")
    check("A", "NT+NT")
    check("NT_A", "NT_NT", "A_B", combination_separator="_")


@pytest.mark.parametrize("control", ["nontargeting", "zzz"])
def test_labels_that_look_like_controls_are_suggested_first(control):
    with pytest.raises(
        InputError,
        match=rf"no control cells: no gene is '{control}'; did you mean 'non-targeting'\? "
        r"Its labels are non-targeting, A, B\. Set datasets.tiny.control_label",
    ):
        check("A", "B", "non-targeting", control_label=control)


@pytest.mark.parametrize("label", ["my_vehicle", "untreated_a", "lib2-non-targeting-x"])
def test_every_name_that_detection_knows_is_suggested_within_other_labels(label):
    with pytest.raises(InputError, match=f"did you mean '{label}'"):
        check("A", "B", label, control_label="zzz")


def test_without_anything_like_a_control_the_labels_are_listed():
    with pytest.raises(InputError, match=r"no gene is 'NT' or 'safe'\. Its labels are A, B\. Set"):
        check("A", "B", control_label=["NT", "safe"])
    with pytest.raises(InputError, match=r"no gene is a usual name of controls\. Its labels are"):
        check("A", "B", control_label=None)


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("non-targeting", "Non-Targeting"),
        ("non-targeting", "non_targeting"),
        ("non-targeting", "NT"),
        ("NT", "control"),
        ("NT", "ctrl"),
        ("NT", "NT_2"),
        ("parental", "Parental"),
    ],
)
def test_a_control_under_another_name_is_never_a_perturbation(own, other):
    with pytest.raises(
        InputError,
        match=rf"called like controls, '{other}' \(5 cells\), beside its control_label '{own}' "
        rf"\(5 cells\)\. .*datasets.tiny.control_label: \[{own}, {other}\]; .*"
        rf"datasets.tiny.drop_labels: \[{other}\]",
    ):
        check(own, other, "A", control_label=own)
    check(own, other, "A", control_label=[own, other])
    check(own, other, "A", control_label=own, drop_labels=[other])


def test_a_control_under_another_name_is_found_within_a_combination():
    with pytest.raises(
        InputError,
        match=r"'A\+non-targeting' \(5 cells\).*control_label: \[NT, non-targeting\]; .*"
        r"drop_labels: \[A\+non-targeting\]",
    ):
        check("NT", "A+non-targeting")


def test_a_control_under_another_name_is_found_behind_a_pattern():
    with pytest.raises(InputError, match=r"'NTC_1' \(5 cells\).*control_label: \[NT, NTC\]"):
        check("NT_1", "NTC_1", "A_1", target_pattern="([^_]+)_.*")


def test_a_measured_gene_may_be_called_like_a_control():
    dataset = Columns(perturbation_key="gene", control_label="NT")
    check_labels({"NT": 5, "CTRL": 5, "A+CTRL": 5}, GENES | {"CTRL"}, "tiny", dataset)


def check_beside_a_gene_called_ctrl(*labels: str, **dataset) -> None:
    columns = Columns(**{"perturbation_key": "gene", "control_label": "NT", **dataset})
    check_labels(dict.fromkeys(labels, 5), GENES | {"ctrl"}, "tiny", columns)


@pytest.mark.parametrize("label", ["ctrl", "A+ctrl", "ctrl+A", "ctrl+ctrl", "XYZ+ctrl"])
def test_cells_whose_perturbed_gene_is_called_ctrl_never_become_controls(label):
    with pytest.raises(
        InputError,
        match=rf"with 'ctrl', '{re.escape(label)}' \(5 cells\), which is a measured gene here .*"
        rf"control_label: \[NT, ctrl\]; .*drop_labels: \[{re.escape(label)}\]",
    ):
        check_beside_a_gene_called_ctrl("NT", "A", label)
    check_beside_a_gene_called_ctrl("NT", "A", label, control_label=["NT", "ctrl"])
    check_beside_a_gene_called_ctrl("NT", "A", label, drop_labels=[label])


def test_a_gene_called_ctrl_that_nobody_perturbed_is_no_matter():
    check_beside_a_gene_called_ctrl("NT", "A", "A+B", "B+NT")


def test_a_gene_called_ctrl_is_found_behind_a_pattern():
    with pytest.raises(InputError, match=r"with 'ctrl', 'ctrl_1' \(5 cells\)"):
        check_beside_a_gene_called_ctrl("NT_1", "ctrl_1", "A_1", target_pattern="([^_]+)_.*")


@pytest.mark.parametrize(
    ("key", "value"), [("drop_labels", ["multplet"]), ("control_label", ["NT", "multplet"])]
)
def test_a_named_label_that_no_cell_has_is_an_error(key, value):
    with pytest.raises(
        InputError,
        match=rf"datasets.tiny.{key} names multplet, but no cell has this gene; "
        r"did you mean 'multiplet'\?",
    ):
        check("NT", "A", "multiplet", **{key: value})


@pytest.mark.parametrize(
    ("label", "separator"), [("A_B", "_"), ("A,NT", ","), ("A;B", ";"), ("A_control", "_")]
)
def test_combinations_with_another_separator_are_no_unmeasured_genes(label, separator):
    with pytest.raises(
        InputError,
        match=rf"1 labels that join measured genes by '{separator}': {label}\. .*"
        rf"datasets.tiny.combination_separator: '?{separator}",
    ):
        check("NT", "A", label)
    check("NT", "A", label, drop_labels=[label])


def test_a_perturbed_gene_whose_own_name_has_a_plus_is_refused():
    genes = {*GENES, "A+AS1"}
    with pytest.raises(InputError, match=r"perturbs A\+AS1, names of measured genes"):
        check_labels({"NT": 5, "A+AS1": 5}, genes, "tiny", Columns(control_label="NT"))


def test_labels_that_are_dropped_are_not_judged():
    check("NT", "A", "A_B_C", "control", drop_labels=["A_B_C", "control"])
