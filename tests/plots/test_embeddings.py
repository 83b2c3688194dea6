"""Pictures of embeddings show every cell, by the labels that cells have."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from scripts import plot_embeddings
from vcpipe.config.eval import EmbeddingPlot
from vcpipe.data.embeddings import write_embeddings
from vcpipe.errors import InputError
from vcpipe.evaluation.projection import drawn_cells, pca_of, umap_of
from vcpipe.plots.embeddings import COLOURS, MOST_VALUES, embedding_figure, labels_to_show


@pytest.fixture
def obs():
    number = np.arange(30)
    return pd.DataFrame(
        {
            "kind": pd.Categorical(number % 3),
            "cell": number.astype(str),
            "depth": number * 1.0,
            "same": "x",
        },
        index=[f"cell{i}" for i in number],
    )


def test_labels_are_those_that_tell_a_few_kinds_of_cells_apart(obs):
    assert labels_to_show(obs, []) == ["kind"]
    assert labels_to_show(obs, ["depth"]) == ["depth"]
    with pytest.raises(InputError, match="color_by names age; the obs columns are kind, cell"):
        labels_to_show(obs, ["age"])


@pytest.mark.parametrize(("num_kinds", "missing"), [(3, 0), (3, 4), (MOST_VALUES + 5, 2)])
def test_every_cell_is_a_point(generator, num_kinds, missing):
    values = pd.Series([f"k{i % num_kinds:02d}" for i in range(100)], name="kind")
    values[:missing] = None
    figure = embedding_figure(generator.normal(size=(100, 2)), values, "demo")
    (ax,) = figure.axes
    points = {dots.get_label(): len(dots.get_offsets()) for dots in ax.collections}
    assert sum(points.values()) == 100
    assert len(points) == min(num_kinds, MOST_VALUES) + bool(missing)
    if missing:
        assert ("others" if num_kinds > MOST_VALUES else "unknown") in points
    looks = {(tuple(dots.get_facecolor()[0]), len(dots.get_paths()[0])) for dots in ax.collections}
    assert len(looks) == len(points) or num_kinds > len(COLOURS)


def test_at_most_so_many_cells_are_drawn_and_always_the_same():
    assert drawn_cells(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
    some = drawn_cells(1000, 10, 0)
    assert len(some) == 10
    assert (np.diff(some) > 0).all()
    assert some.tolist() == drawn_cells(1000, 10, 0).tolist()


def test_the_script_draws_a_figure_for_each_label(obs, generator, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vcpipe.evaluation.projection.umap_of", lambda values, *_: np.asarray(values)[:, :2]
    )
    write_embeddings(
        tmp_path / "cells.h5ad", generator.normal(size=(30, 8)), obs, "r", {"run": "r"}
    )
    out = tmp_path / "figures"
    plot_embeddings.main(
        [f"--embeddings={tmp_path / 'cells.h5ad'}", f"--out={out}", "num_cells=20"]
    )
    assert {path.name for path in out.iterdir()} == {"kind.svg", "umap.tsv"}
    assert len(pd.read_csv(out / "umap.tsv", sep="\t")) == 20


def test_principal_components_keep_distances_and_are_the_same_again(generator):
    group = np.arange(40) % 2
    values = generator.normal(size=(40, 6)) * 0.1 + 5 * group[:, None]
    places = pca_of(values)
    assert places.shape == (40, 2)
    first = places[:, 0]
    assert first[group == 1].min() > first[group == 0].max() + 10
    np.testing.assert_allclose(pca_of(values[::-1]), places[::-1], atol=1e-4)
    with pytest.raises(InputError, match="There are 1 cells of 6 numbers"):
        pca_of(values[:1])


def test_the_script_draws_principal_components_where_they_are_asked_for(obs, generator, tmp_path):
    values = generator.normal(size=(30, 8))
    write_embeddings(tmp_path / "cells.h5ad", values, obs, "r", {"run": "r"})
    out = tmp_path / "figures"
    plot_embeddings.main([f"--embeddings={tmp_path}/cells.h5ad", f"--out={out}", "method=pca"])
    assert {path.name for path in out.iterdir()} == {"kind.svg", "pca.tsv"}
    table = pd.read_csv(out / "pca.tsv", sep="\t", index_col="cell")
    np.testing.assert_allclose(table, pca_of(values.astype(np.float32)), atol=1e-3)
    assert "PCA 1" in (out / "kind.svg").read_text()


def test_settings_of_umap_are_refused_where_components_are_drawn():
    with pytest.raises(ValidationError, match=r"min_dist is 0\.1 and method is pca; it is of umap"):
        EmbeddingPlot(method="pca", min_dist=0.1)


def test_a_file_without_an_embedding_is_refused(obs, tmp_path):
    ad.AnnData(np.zeros((30, 1)), obs).write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(InputError, match="has no embedding; expected an h5ad of embed_cells"):
        plot_embeddings.main([f"--embeddings={tmp_path / 'cells.h5ad'}", f"--out={tmp_path}/out"])


@pytest.mark.slow
def test_umap_keeps_groups_apart_and_is_the_same_again(generator):
    # One test for both sizes: UMAP compiles for half a minute, once per process.
    for num_cells in (5, 60):
        group = np.arange(num_cells) % 2
        values = generator.normal(size=(num_cells, 6)) * 0.1 + 50 * group[:, None]
        places = umap_of(values, 4, 0.3, seed=0)
        np.testing.assert_array_equal(places, umap_of(values, 4, 0.3, seed=0))
        assert places.shape == (num_cells, 2)
