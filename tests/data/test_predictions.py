"""Predictions are written whole, aligned by gene name, and checked before they are scored."""

import json
from collections.abc import Iterator

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from vcpipe.data.predicted_cells import PredictedCells
from vcpipe.data.predictions import open_predictions, write_predictions
from vcpipe.errors import InputError

GENES = np.array(["A", "B", "C"])
CONDITIONS = ["A+ctrl", "B+ctrl"]
ABOUT = {"model": "mine", "kind": "model", "dataset": "tiny", "split": "unseen"}


@pytest.fixture
def cells(generator) -> dict[str, np.ndarray]:
    return {condition: generator.random((5, 3)).astype(np.float32) for condition in CONDITIONS}


@pytest.fixture
def prediction(cells) -> ad.AnnData:
    """What another tool would hand in."""
    obs = pd.DataFrame({"condition": np.repeat(CONDITIONS, 5)}, index=[f"c{i}" for i in range(10)])
    return ad.AnnData(
        sp.csr_matrix(np.vstack(list(cells.values()))),
        obs,
        pd.DataFrame(index=GENES.astype(object)),
        uns={"vcpipe": json.dumps(ABOUT)},
    )


def predicted(cells: dict[str, np.ndarray]) -> Iterator[PredictedCells]:
    return (PredictedCells(*item) for item in cells.items())


def read_all(path) -> np.ndarray:
    predictions = open_predictions(path, GENES, CONDITIONS)
    return np.vstack([values_CG for _, values_CG in predictions.chunks(size=4)])


def refusal(prediction: ad.AnnData, path) -> str:
    prediction.write_h5ad(path)
    with pytest.raises(InputError) as error:
        read_all(path)
    return str(error.value)


def test_cells_come_back_as_they_were_written(cells, tmp_path):
    path = tmp_path / "mine.h5ad"
    write_predictions(path, predicted(cells), GENES, ABOUT)
    np.testing.assert_array_equal(read_all(path), np.vstack(list(cells.values())))
    assert open_predictions(path, GENES, CONDITIONS).about["model"] == "mine"


def test_anndata_reads_what_we_write(cells, tmp_path):
    path = tmp_path / "mine.h5ad"
    write_predictions(path, predicted(cells), GENES, ABOUT)
    found = ad.read_h5ad(path)
    assert found.X.dtype == np.float32
    assert found.var_names.tolist() == GENES.tolist()
    assert found.obs["condition"].value_counts().to_dict() == dict.fromkeys(CONDITIONS, 5)
    assert json.loads(found.uns["vcpipe"]) == ABOUT


def test_counts_stand_beside_the_values_they_were_drawn_from(cells, tmp_path):
    path = tmp_path / "mine.h5ad"
    counts = {
        name: sp.csr_matrix(np.round(9 * its), dtype=np.float32) for name, its in cells.items()
    }
    with_counts = (PredictedCells(name, its, counts[name]) for name, its in cells.items())
    write_predictions(path, with_counts, GENES, ABOUT)
    found = ad.read_h5ad(path)
    assert abs(found.layers["counts"] - sp.vstack(list(counts.values()))).nnz == 0
    np.testing.assert_array_equal(found.X.toarray(), np.vstack(list(cells.values())))
    np.testing.assert_array_equal(read_all(path), np.vstack(list(cells.values())))


def test_cells_of_a_condition_may_come_in_parts(cells, tmp_path):
    path = tmp_path / "mine.h5ad"
    parts = (
        PredictedCells(name, its[rows])
        for name, its in cells.items()
        for rows in (slice(0, 2), slice(2, None))
    )
    write_predictions(path, parts, GENES, ABOUT)
    np.testing.assert_array_equal(read_all(path), np.vstack(list(cells.values())))


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (-0.1, r"below 0 \(-0.1\)")],
)
def test_a_model_that_predicts_no_expression_writes_nothing(cells, tmp_path, value, words):
    cells["B+ctrl"][2, 1] = value
    with pytest.raises(InputError, match=rf"The cells predicted for B\+ctrl have values.*{words}"):
        write_predictions(tmp_path / "mine.h5ad", predicted(cells), GENES, ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_other_genes_writes_nothing(cells, tmp_path):
    with pytest.raises(InputError, match=r"predicted for A\+ctrl have 3 genes; expected 2"):
        write_predictions(tmp_path / "mine.h5ad", predicted(cells), GENES[:2], ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_prediction_leaves_no_file(cells, tmp_path):
    def failing():
        yield from predicted(cells)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_predictions(tmp_path / "mine.h5ad", failing(), GENES, ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_the_order_of_genes_does_not_matter(prediction, cells, tmp_path):
    prediction[:, ["C", "A", "B"]].copy().write_h5ad(tmp_path / "mine.h5ad")
    np.testing.assert_array_equal(read_all(tmp_path / "mine.h5ad"), np.vstack(list(cells.values())))


def test_control_cells_in_the_file_are_allowed(prediction, tmp_path):
    prediction.obs.loc["extra"] = "ctrl"
    values = sp.vstack([prediction.X, prediction.X[:1]]).tocsr()
    withed = ad.AnnData(values, prediction.obs, prediction.var, uns=prediction.uns)
    withed.write_h5ad(tmp_path / "mine.h5ad")
    assert read_all(tmp_path / "mine.h5ad").shape == (11, 3)


def test_missing_and_surplus_genes_are_named(prediction, tmp_path):
    prediction.var_names = ["A", "B", "X"]
    message = refusal(prediction, tmp_path / "mine.h5ad")
    assert "3 genes, without C and with X too many" in message


def test_missing_and_surplus_perturbations_are_named(prediction, tmp_path):
    prediction.obs["condition"] = np.repeat(["A+ctrl", "X+ctrl"], 5)
    message = refusal(prediction, tmp_path / "mine.h5ad")
    assert "2 perturbations, without B+ctrl and with X+ctrl too many" in message


def test_genes_that_stand_twice_are_refused(cells, tmp_path):
    path = tmp_path / "mine.h5ad"
    write_predictions(path, predicted(cells), np.array(["A", "B", "B"]), ABOUT)
    with pytest.raises(InputError, match="genes twice: B"):
        read_all(path)


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "NaN"), (np.inf, "infinite"), (-0.1, "below 0"), (400.5, "not on the log scale")],
)
def test_values_that_cannot_be_log_expression_are_refused(prediction, tmp_path, value, words):
    prediction.X = prediction.X.toarray()
    prediction.X[6, 1] = value
    assert words in refusal(prediction, tmp_path / "mine.h5ad")


def test_counts_are_refused(prediction, tmp_path):
    prediction.X = np.random.default_rng(0).poisson(2, prediction.shape).astype(np.float32)
    assert "whole numbers only" in refusal(prediction, tmp_path / "mine.h5ad")


def test_predictions_say_who_made_them(prediction, tmp_path):
    del prediction.uns["vcpipe"]
    assert "no JSON in uns['vcpipe']" in refusal(prediction, tmp_path / "mine.h5ad")
    prediction.uns["vcpipe"] = json.dumps({**ABOUT, "kind": "oracle"})
    assert "kind 'oracle'; expected model or baseline" in refusal(
        prediction, tmp_path / "mine.h5ad"
    )


def test_cells_need_a_condition(prediction, tmp_path):
    prediction.obs = prediction.obs.rename(columns={"condition": "target_gene"})
    assert "no obs column 'condition', only target_gene" in refusal(
        prediction, tmp_path / "mine.h5ad"
    )


def test_other_files_are_refused(tmp_path):
    (tmp_path / "mine.h5ad").write_text("condition,value\n")
    with pytest.raises(InputError, match="is not an h5ad file"):
        read_all(tmp_path / "mine.h5ad")
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(InputError, match="has no X, obs, var"):
        read_all(tmp_path / "other.h5")
