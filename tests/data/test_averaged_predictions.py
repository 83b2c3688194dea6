import anndata as ad
import numpy as np
import pytest

from scripts import average_predictions
from vcpipe.data.predictions import open_predictions, write_predictions
from vcpipe.errors import InputError

GENES = np.array(["A", "B", "C"])
ABOUT = {"kind": "model", "dataset": "d", "split": "s", "config_digest": "x", "notes": ["n"]}


@pytest.fixture
def write(tmp_path):
    def made(name, shift, conditions=("A+ctrl", "B+ctrl"), **about):
        generator = np.random.default_rng(0)
        cells = [(one, generator.random((300, 3)).astype("float32") + shift) for one in conditions]
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
