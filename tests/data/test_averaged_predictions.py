import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scripts import average_predictions
from vcpipe.data.predicted_cells import PredictedCells
from vcpipe.data.predictions import open_predictions, write_predictions
from vcpipe.errors import InputError

GENES = np.array(["A", "B", "C"])
ABOUT = {"kind": "model", "dataset": "d", "split": "s", "config_digest": "x", "notes": ["n"]}


@pytest.fixture
def write(tmp_path):
    def made(name, shift, conditions=("A+ctrl", "B+ctrl"), counts=False, **about):
        generator = np.random.default_rng(0)
        cells = []
        for condition in conditions:
            values_CG = generator.random((300, 3)).astype("float32") + shift
            counts_CG = sp.csr_matrix(np.full((300, 3), len(cells) + 5, dtype="float32"))
            cells.append(PredictedCells(condition, values_CG, counts_CG if counts else None))
        path = tmp_path / f"{name}.h5ad"
        write_predictions(path, cells, GENES, ABOUT | {"model": name} | about)
        return path

    return made


def test_the_mean_is_of_every_cell_and_gene(write, tmp_path):
    paths = [write("one", 0.5), write("two", 1.0), write("three", 3.0)]
    out = tmp_path / "mean.h5ad"
    average_predictions.main(
        ["--predictions", *map(str, paths), "--name", "mean", "--out", str(out)]
    )
    cells = ad.read_h5ad(out)
    expected = ad.read_h5ad(paths[1])
    shown = cells.X.toarray() if hasattr(cells.X, "toarray") else cells.X
    before = expected.X.toarray() if hasattr(expected.X, "toarray") else expected.X
    np.testing.assert_allclose(shown, before + 0.5, rtol=1e-5)
    assert list(cells.obs["condition"]) == list(expected.obs["condition"])
    about = open_predictions(out, GENES, ["A+ctrl", "B+ctrl"]).about
    assert about["model"] == "mean"
    assert about["notes"] == ["the mean of one, two, three", "n"]


def test_counts_are_drawn_from_the_mean_as_many_as_a_cell_had(write, tmp_path):
    def average(*paths):
        out = tmp_path / "mean.h5ad"
        given = ["--predictions", *map(str, paths), "--name", "mean", "--out", str(out)]
        average_predictions.main([*given, "counts=true"])
        return ad.read_h5ad(out)

    one, two = write("one", 0.5, counts=True), write("two", 1.0, counts=True)
    cells = average(one, two)
    counts_CG, again_CG = cells.layers["counts"], average(one, two).layers["counts"]
    sums_C = np.asarray(counts_CG.sum(axis=1)).ravel()
    np.testing.assert_array_equal(sums_C, np.repeat([15, 18], 300))
    np.testing.assert_array_equal(counts_CG.toarray(), again_CG.toarray())
    rate_CG = np.expm1(cells.X.toarray())
    share_G = (rate_CG / rate_CG.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(counts_CG.sum(axis=0).A1 / sums_C.sum(), share_G, atol=0.02)
    with pytest.raises(InputError, match=r"one\.h5ad has no layer 'counts'.*predict again"):
        average(write("one", 0.5), two)


def test_predictions_of_other_cells_are_refused(write, tmp_path):
    def average(other):
        paths = [str(write("one", 0.5)), str(other)]
        average_predictions.main(
            ["--predictions", *paths, "--name", "mean", "--out", str(tmp_path / "mean.h5ad")]
        )

    with pytest.raises(InputError, match=r"another order; expected the same"):
        average(write("two", 1.0, ("B+ctrl", "A+ctrl")))
    with pytest.raises(InputError, match=r"has split 'other', but .*one\.h5ad has 's'"):
        average(write("two", 1.0, split="other"))
    assert not (tmp_path / "mean.h5ad").exists()
