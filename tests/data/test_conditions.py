import numpy as np
import pandas as pd
import pytest

from vcpipe.config.datasets import Dataset
from vcpipe.data.conditions import read_labels
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


def test_labels_that_are_already_conditions_are_taken_as_they_are(labels_of, counts):
    names = {gene: f"{gene}+ctrl" for gene in counts.obs["target_gene"].cat.categories}
    names["non-targeting"] = "ctrl"
    plain = labels_of().condition
    gears = {cell: names[label] for cell, label in counts.obs["target_gene"].items()}
    np.testing.assert_array_equal(labels_of(gears).condition, plain)


@pytest.mark.parametrize("given", [{}, {"control_label": "non-targeting"}])
def test_a_perturbed_gene_called_ctrl_is_refused_with_found_and_with_given_settings(
    labels_of, counts, given
):
    counts.var_names = ["ctrl", *counts.var_names[1:]]
    cells = {"cell050": "ctrl", "cell051": "ctrl"}
    with pytest.raises(InputError, match=r"with 'ctrl', 'ctrl' \(2 cells\), which is a measured"):
        labels_of(cells, **given)


@pytest.mark.parametrize("setting", ["perturbation_key", "batch_key", "cell_type_key"])
def test_a_missing_column_is_named_with_those_that_exist_and_its_setting(labels_of, setting):
    with pytest.raises(
        InputError,
        match=rf"'tiny' has no obs column 'gone'; its columns are target_gene.*tiny.{setting}",
    ):
        labels_of(**{setting: "gone"})


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


def test_unsafe_cell_types_are_replaced_when_asked_and_reported(labels_of, counts):
    counts.obs["kind"] = np.where(np.arange(120) % 2, "H1_ESC/p4", "K562")
    labels = labels_of(cell_type_key="kind", unsafe_cell_types="replace")
    assert set(labels.cell_type) == {"H1-ESC-p4", "K562"}
    assert labels.renamed_cell_types == {"H1_ESC/p4": "H1-ESC-p4"}


def test_cell_types_that_would_be_called_alike_are_refused(labels_of, counts):
    counts.obs["kind"] = np.where(np.arange(120) % 2, "H1_ESC", "H1-ESC")
    with pytest.raises(InputError, match="cell types H1-ESC, H1_ESC of dataset 'tiny' would be"):
        labels_of(cell_type_key="kind", unsafe_cell_types="replace")


def test_cells_with_a_label_to_drop_are_left_out_and_counted(labels_of):
    labels = labels_of({"cell050": "*", "cell051": "multiplet"}, drop_labels=["*", "multiplet"])
    assert np.flatnonzero(~labels.kept).tolist() == [50, 51]
    assert labels.dropped_labels == {"*": 1, "multiplet": 1}
    assert labels.dropped == {}


def test_of_cells_that_are_left_out_nothing_else_is_asked(labels_of, counts):
    counts.obs["batch"] = pd.Categorical([*counts.obs["batch"][:-1], None])
    counts.obs["kind"] = ["K562"] * 119 + ["H1_ESC"]
    labels = labels_of({"cell119": "unassigned"}, drop_labels=["unassigned"], cell_type_key="kind")
    assert labels.kept.sum() == 119
    assert labels.unknown_targets == []


def test_found_settings_are_those_that_were_not_given(labels_of):
    labels = labels_of(control_label="non-targeting")
    assert labels.detected == {"perturbation_key": "target_gene"}
    assert labels.columns.perturbation_key == "target_gene"
    assert labels_of(perturbation_key="target_gene", control_label="non-targeting").detected == {}


def test_labels_of_guides_lead_to_the_setting_that_reads_them(labels_of, counts):
    cells = {
        cell: f"{label}_g1"
        for cell, label in counts.obs["target_gene"].astype(str).items()
        if label != "non-targeting"
    }
    with pytest.raises(
        InputError, match=r"guides, such as 'GENE\d\d_g1', set .*target_pattern"
    ) as e:
        labels_of(cells, perturbation_key="target_gene", control_label="non-targeting")
    pattern = str(e.value).split("target_pattern: '")[1].split("'")[0]
    labels = labels_of(
        cells,
        perturbation_key="target_gene",
        control_label="non-targeting",
        target_pattern=pattern,
    )
    assert "GENE07+ctrl" in labels.condition
