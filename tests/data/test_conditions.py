import numpy as np
import pandas as pd
import pytest

from vcpipe.config.datasets import Dataset
from vcpipe.data.conditions import condition_of, read_labels
from vcpipe.data.counts import open_counts
from vcpipe.errors import InputError


@pytest.fixture
def labels_of(counts, tmp_path):
    """Read the labels of a variant of the tiny screen: labels_of({"cell030": "A+B"})."""

    def read(changes: dict[str, str | None] | None = None, **dataset):
        labels = counts.obs["target_gene"].astype(object).to_dict() | (changes or {})
        counts.obs["target_gene"] = pd.Categorical(list(labels.values()))
        counts.write_h5ad(tmp_path / "raw.h5ad")
        return read_labels(
            open_counts(tmp_path / "raw.h5ad", "tiny"), "tiny", Dataset.model_validate(dataset)
        )

    return read


@pytest.mark.parametrize(
    ("label", "condition"),
    [
        ("NT", "ctrl"),
        ("ctrl", "ctrl"),
        ("A", "A+ctrl"),
        ("A+ctrl", "A+ctrl"),
        ("ctrl+A", "A+ctrl"),
        ("NT+A", "A+ctrl"),
        ("A+B", "A+B"),
        ("B+A", "A+B"),
    ],
)
def test_every_way_to_write_a_condition_becomes_one(label, condition):
    assert condition_of(label, "NT") == condition


@pytest.mark.parametrize("label", ["A+B+C", "A+A", "A+", "+"])
def test_what_is_no_gene_or_pair_of_genes_is_refused(label):
    with pytest.raises(InputError, match="is no perturbation; expected a gene, or two different"):
        condition_of(label, "NT")


@pytest.mark.parametrize("label", ["neg_ctrl", "A/B"])
def test_names_that_gears_files_cannot_hold_are_refused(label):
    with pytest.raises(InputError, match=f"Label '{label}' contains 'ctrl' or '/'"):
        condition_of(label, "NT")


def test_labels_that_are_already_conditions_are_taken_as_they_are(labels_of, counts):
    names = {gene: f"{gene}+ctrl" for gene in counts.obs["target_gene"].cat.categories}
    names["non-targeting"] = "ctrl"
    plain = labels_of().condition
    gears = {cell: names[label] for cell, label in counts.obs["target_gene"].items()}
    np.testing.assert_array_equal(labels_of(gears).condition, plain)


@pytest.mark.parametrize("setting", ["perturbation_key", "batch_key", "cell_type_key"])
def test_a_missing_column_is_named_with_those_that_exist_and_its_setting(labels_of, setting):
    with pytest.raises(
        InputError,
        match=rf"'tiny' has no obs column 'gone'; its columns are target_gene.*tiny.{setting}",
    ):
        labels_of(**{setting: "gone"})


def test_without_control_cells_the_labels_are_listed_and_the_nearest_suggested(labels_of):
    with pytest.raises(
        InputError,
        match=r"no target_gene is 'nontargeting'; did you mean 'non-targeting'\? "
        r"Its labels are non-targeting, GENE03, .*\. Set datasets.tiny.control_label",
    ):
        labels_of(control_label="nontargeting")


@pytest.mark.parametrize("label", ["NT", "control", "zzz"])
def test_labels_that_look_like_controls_are_suggested_first(labels_of, label):
    with pytest.raises(InputError, match=r"did you mean 'non-targeting'\?"):
        labels_of(control_label=label)


@pytest.mark.parametrize("missing", [None, "nan", ""])
def test_a_missing_label_is_no_control(labels_of, missing):
    with pytest.raises(InputError, match=r"2 cells without 'target_gene': cell000, cell099"):
        labels_of({"cell000": missing, "cell099": missing})


def test_a_missing_batch_is_refused(labels_of, counts):
    counts.obs["batch"] = pd.Categorical([None, *counts.obs["batch"][1:]])
    with pytest.raises(InputError, match=r"1 cells without 'batch': cell000"):
        labels_of()


def test_small_perturbations_are_listed_with_their_sizes(labels_of):
    cells = {f"cell{i:03d}": "GENE02" for i in range(50, 53)} | {"cell060": "GENE01"}
    with pytest.raises(
        InputError,
        match=r"2 perturbations .* fewer than 4 cells: GENE01\+ctrl \(1\), GENE02\+ctrl \(3\)\. "
        "Set datasets.tiny.small_perturbations to drop",
    ):
        labels_of(cells, min_cells=4)


def test_small_perturbations_are_dropped_when_asked(labels_of):
    labels = labels_of({"cell060": "GENE01"}, small_perturbations="drop")
    assert np.flatnonzero(~labels.kept).tolist() == [60]
    assert labels.dropped == {"GENE01+ctrl": 1}


def test_a_perturbation_is_counted_within_its_cell_type(labels_of, counts):
    counts.obs["kind"] = np.where(np.arange(120) % 2, "A549", "K562")
    counts.obs.loc["cell119", "kind"] = "K562"
    cells = {f"cell{i:03d}": "GENE01" for i in (116, 117, 118, 119)}
    with pytest.raises(InputError, match=r"1 perturbations .*: GENE01\+ctrl in A549 \(1\)"):
        labels_of(cells, cell_type_key="kind")


def test_a_cell_type_without_controls_is_named(labels_of, counts):
    kinds = np.where(np.arange(120) < 60, "K562", "A549")
    counts.obs["kind"] = kinds
    with pytest.raises(InputError, match=r"has 0 control cells .* of cell type 'A549'; expected"):
        labels_of(cell_type_key="kind")


def test_every_unmeasured_target_is_listed(labels_of):
    cells = {"cell050": "ABC", "cell051": "ABC", "cell060": "GENE01+XYZ", "cell061": "XYZ+GENE01"}
    with pytest.raises(
        InputError, match=r"2 perturbed genes .* its 30 genes: ABC, XYZ\..*tiny.unknown_targets"
    ):
        labels_of(cells)
    assert labels_of(cells, unknown_targets="keep").kept.all()
    dropped = labels_of(cells, unknown_targets="drop")
    assert np.flatnonzero(~dropped.kept).tolist() == [50, 51, 60, 61]
    assert dropped.unknown_targets == ["ABC", "XYZ"]


def test_policies_that_leave_no_perturbed_cell_are_an_error(labels_of):
    with pytest.raises(InputError, match=r"no perturbed cells left.*\(drop, min_cells 99\).*80 ce"):
        labels_of(min_cells=99, small_perturbations="drop")


def test_a_cell_type_with_an_underscore_is_refused(labels_of, counts):
    counts.obs["kind"] = "H1_ESC"
    with pytest.raises(InputError, match=r"'_' or '/' in 'kind': H1_ESC.*e.g. 'H1-ESC'"):
        labels_of(cell_type_key="kind")


def test_a_perturbed_gene_whose_own_name_has_a_plus_is_refused(labels_of, counts):
    counts.var_names = ["GENE00+AS1", *counts.var_names[1:]]
    with pytest.raises(InputError, match=r"perturbs GENE00\+AS1, names of measured genes"):
        labels_of({"cell050": "GENE00+AS1", "cell051": "GENE00+AS1"})
