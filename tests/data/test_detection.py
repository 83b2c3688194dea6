from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from vcpipe.config.datasets import Columns
from vcpipe.data import detection
from vcpipe.data.counts import open_counts
from vcpipe.data.detection import as_setting, resolved
from vcpipe.data.labels import condition_of
from vcpipe.errors import InputError

JURKAT = Path(__file__).parents[3] / "shared" / "data" / "datlinger_jurkat_cropseq_counts.h5ad"
GENES = ["STAT1", "KLF1", "AHR", "FEV", "INS"]
LABELS = ["NT", "STAT1", "KLF1"]


@pytest.fixture
def resolve(tmp_path):
    """What is found in a screen with four cells of every row of obs."""

    def run(obs: dict[str, list], genes=GENES, var: dict | None = None, **dataset) -> Columns:
        frame = pd.DataFrame({key: np.repeat(values, 4) for key, values in obs.items()})
        frame.index = [f"cell{i}" for i in range(len(frame))]
        matrix = np.ones((len(frame), len(genes)), dtype=np.float32)
        cells = ad.AnnData(matrix, frame, pd.DataFrame(var, index=genes))
        cells.write_h5ad(tmp_path / "raw.h5ad")
        return resolved(open_counts(tmp_path / "raw.h5ad", "tiny"), "tiny", Columns(**dataset))

    return run


@pytest.fixture
def found(resolve):
    def run(*arguments, **options) -> tuple:
        columns = resolve(*arguments, **options)
        return columns.perturbation_key, columns.control_label

    return run


@pytest.mark.parametrize(
    "key", ["target_gene", "gene", "Perturbation", "guide_identity", "condition", "my_own"]
)
@pytest.mark.parametrize("control", ["non-targeting", "NT", "control", "NegCtrl", "ctrl", "NTC_1"])
def test_any_column_and_any_usual_name_of_controls_is_found(found, key, control):
    obs = {"batch": ["a", "b", "c"], "n": [1, 2, 3], key: [control, "STAT1", "KLF1"]}
    assert found(obs) == (key, control)


def test_combinations_of_measured_genes_count_as_measured(found):
    obs = {"mine": ["control", "STAT1+KLF1", "FEV+control", "AHR+ctrl", "XYZ"]}
    assert found(obs) == ("mine", "control")
    obs = {"mine": ["control", "STAT1_KLF1", "FEV_control", "XYZ"]}
    assert found(obs, combination_separator="_") == ("mine", "control")


def test_under_a_usual_name_one_measured_gene_is_enough_and_under_another_half_of_them(
    resolve, found
):
    labels = ["NT", "STAT1", "XYZ1", "XYZ2"]
    assert found({"gene": labels}) == ("gene", "NT")
    with pytest.raises(InputError, match="no obs column with a usual name of controls"):
        resolve({"mine": labels})


def test_what_is_given_is_used_as_it_is(resolve, found):
    obs = {"gene": LABELS, "other": ["zzz", "KLF1", "AHR"]}
    given = Columns(perturbation_key="gone", control_label="gone")
    assert resolve(obs, **given.model_dump()) == given
    assert found(obs, perturbation_key="gene") == ("gene", "NT")
    assert found(obs, control_label="zzz") == ("other", "zzz")
    assert found(obs, perturbation_key="other") == ("other", None)


def test_a_misspelt_control_label_leads_to_the_column_it_is_missing_from(found):
    assert found({"gene": LABELS}, control_label="nontargeting") == ("gene", "nontargeting")


def test_of_columns_that_say_the_same_the_most_usual_name_is_taken(found):
    obs = {"mine": LABELS, "perturbation": ["ctrl", "STAT1+ctrl", "ctrl+KLF1"], "gene": LABELS}
    assert found(obs) == ("gene", "NT")


def test_columns_are_compared_by_reading_each_label_once(found, monkeypatch):
    read = []

    def watched(label, *others):
        read.append(label)
        return condition_of(label, *others)

    monkeypatch.setattr(detection, "condition_of", watched)
    assert found({"perturbation": LABELS, "gene": LABELS}) == ("gene", "NT")
    assert sorted(read) == sorted(2 * LABELS)


def test_columns_that_differ_are_proposed_with_their_sizes(resolve):
    obs = {"perturbation": ["control", "STAT1", "AHR"], "gene": LABELS, "kind": ["x", "y", "z"]}
    with pytest.raises(InputError) as error:
        resolve(obs)
    assert str(error.value).splitlines() == [
        "Dataset 'tiny' has 2 obs columns that may hold the perturbed genes. Set one of:",
        "  datasets.tiny.perturbation_key: gene, datasets.tiny.control_label: NT "
        "(3 labels, 4 control cells)",
        "  datasets.tiny.perturbation_key: perturbation, datasets.tiny.control_label: control "
        "(3 labels, 4 control cells)",
    ]


TREATED = {"condition": ["control", "INS", "INS"], "target_gene": ["sgLuc", "STAT1", "KLF1"]}


@pytest.mark.parametrize("key", ["target_gene", "my_own"])
def test_a_treatment_beside_genes_with_controls_of_another_name_is_not_guessed(resolve, found, key):
    obs = {"condition": TREATED["condition"], key: TREATED["target_gene"]}
    with pytest.raises(InputError) as error:
        resolve(obs)
    assert str(error.value).splitlines() == [
        "Dataset 'tiny' has 2 obs columns that may hold the perturbed genes. Set one of:",
        "  datasets.tiny.perturbation_key: condition, datasets.tiny.control_label: control "
        "(2 labels, 4 control cells)",
        f"  datasets.tiny.perturbation_key: {key} (3 labels, 0 control cells known: "
        "set datasets.tiny.control_label too, 2 of 3 targets measured)",
    ]
    assert found(obs, control_label="sgLuc") == (key, "sgLuc")
    assert found(obs, control_label="control") == ("condition", "control")


def test_a_misspelt_control_label_leads_to_no_treatment(resolve):
    with pytest.raises(InputError, match="2 obs columns that may hold the perturbed genes"):
        resolve(TREATED, control_label="sgluc")


@pytest.mark.parametrize("control", ["sgLuc", None])
def test_a_column_that_only_calls_the_controls_otherwise_is_no_contender(found, control):
    assert found({"mine": LABELS, "gene": [control, "STAT1", "KLF1"]}) == ("mine", "NT")


def test_a_column_with_genes_in_controls_of_another_is_a_contender(resolve):
    obs = {"mine": ["NT", *LABELS], "gene": ["INS", "sgLuc", "STAT1", "KLF1"]}
    with pytest.raises(InputError, match="2 obs columns that may hold the perturbed genes"):
        resolve(obs)


def test_several_labels_of_controls_are_proposed_together_and_one_by_one(resolve, found):
    with pytest.raises(InputError) as error:
        resolve({"gene": ["NT", "safe", "STAT1"]})
    assert str(error.value).splitlines() == [
        "Dataset 'tiny' has 2 labels in 'gene' that look like controls. Set one of:",
        "  datasets.tiny.perturbation_key: gene, datasets.tiny.control_label: [NT, safe] "
        "(3 labels, 8 control cells)",
        "  datasets.tiny.perturbation_key: gene, datasets.tiny.control_label: NT, "
        "datasets.tiny.drop_labels: [safe] (3 labels, 4 control cells)",
        "  datasets.tiny.perturbation_key: gene, datasets.tiny.control_label: safe, "
        "datasets.tiny.drop_labels: [NT] (3 labels, 4 control cells)",
    ]
    assert found({"gene": ["NT", "safe", "STAT1"]}, drop_labels=["safe"]) == ("gene", "NT")


def test_guides_are_proposed_with_a_pattern_but_not_guessed(resolve, found):
    obs = {"guide": ["NT_1", "NT_2", "STAT1_pDS1", "STAT1_pDS2"]}
    with pytest.raises(
        InputError,
        match=r"perturbation_key: guide, datasets.tiny.target_pattern: \(\[\^_\]\+\)_\.\*, "
        r"datasets.tiny.control_label: NT \(3 labels, 8 control cells\)",
    ):
        resolve(obs)
    assert found(obs, target_pattern="([^_]+)_.*") == ("guide", "NT")


def test_a_control_that_is_also_a_gene_is_proposed_but_not_guessed(resolve):
    with pytest.raises(InputError, match=r"gene, datasets.tiny.control_label: CTRL \(2 labels, 4"):
        resolve({"gene": ["CTRL", "STAT1"]}, [*GENES, "CTRL"])


@pytest.mark.parametrize("gene", ["CTRL", "ctrl"])
def test_guides_of_a_gene_called_like_a_control_are_no_numbered_controls(resolve, gene):
    with pytest.raises(InputError, match="no obs column with a usual name of controls"):
        resolve(
            {"guide": [f"{gene}_1", "STAT1_1", "KLF1_1"]},
            [*GENES, gene],
            target_pattern="([^_]+)_.*",
        )


def test_genes_by_another_name_lead_to_gene_name_key(resolve):
    ids = [f"ENSG{i}" for i in range(5)]
    with pytest.raises(
        InputError,
        match=r"\(3 labels, 4 control cells, 0 of 2 targets measured\)\n"
        r".*another var column \(symbol\)\? Set gene_name_key",
    ):
        resolve({"gene": LABELS}, ids, {"symbol": GENES})


def test_without_any_candidate_the_columns_are_listed(resolve):
    with pytest.raises(
        InputError,
        match=r"its columns are batch, n\. Set datasets.tiny.perturbation_key and datasets.tiny."
        r"control_label\.$",
    ):
        resolve({"batch": ["a", "b"], "n": [1, 2]})


def test_missing_labels_and_unused_categories_hide_nothing(found):
    labels = pd.Categorical([*LABELS, None], categories=["control", *LABELS])
    assert found({"gene": labels.astype(object)}) == ("gene", "NT")
    assert found({"gene": labels}) == ("gene", "NT")


def test_proposals_are_yaml():
    assert as_setting("x", "drop_labels", ["*", "a: b"]) == "datasets.x.drop_labels: ['*', 'a: b']"
    assert as_setting("x", "control_label", "no") == "datasets.x.control_label: 'no'"


@pytest.mark.skipif(not JURKAT.exists(), reason="needs shared/data")
def test_in_a_real_screen_the_column_of_genes_is_found_among_those_of_guides():
    # perturbation and guide hold guides beside "control"; only 6 of 20 targets were measured.
    columns = resolved(open_counts(JURKAT, "jurkat"), "jurkat", Columns())
    assert (columns.perturbation_key, columns.control_label) == ("target_gene", "non-targeting")


@pytest.mark.skipif(not JURKAT.exists(), reason="needs shared/data")
def test_guides_of_a_real_screen_are_read_with_a_pattern():
    given = Columns(perturbation_key="guide", target_pattern="([^_]+)_.*")
    assert resolved(open_counts(JURKAT, "jurkat"), "jurkat", given).control_label == "control"
