"""Any cells, by any order of genes, get the vectors that a pretrained folder has for them."""

import json
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from scripts import embed_cells
from tests.paired import paired_sources, prepare_pairs
from tests.prepared import prepare
from vcpipe.config.eval import Embedding
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.errors import InputError
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process, empty_for, to_device
from vcpipe.training.embedders.embedder import read_pretrained
from vcpipe.training.embedding import EMBEDDERS
from vcpipe.training.learners.learner import PreparedCells
from vcpipe.training.learners.peaks_to_genes import peaks_to_genes
from vcpipe.training.pretraining import pretrain

WIDTH = 16
SETTINGS = {
    "corpus": "c",
    "tokenizer": {"strategy": "binned_expression", "max_genes": 20, "truncation": "random"},
    "model": {"hidden_dim": WIDTH, "num_layers": 1, "num_heads": 2, "ffn_dim": 16},
    "training": {"max_epochs": 1},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the tiny run lies after the first test that needs it."""
    return tmp_path_factory.mktemp("kept") / "model"


@pytest.fixture
def model(kept, screen, tmp_path):
    """A folder of a tiny run, moved away from where it was made."""
    if not kept.exists():
        prepared = prepare(tmp_path / "corpus", screen)
        paths = tmp_path / "state", kept, tmp_path / "metrics.csv"
        alone = Process(0, 1, torch.device("cpu"))
        pretrain(*prepared, Pretrain(**SETTINGS), "code", alone, *paths)
    return shutil.copytree(kept, tmp_path / "tiny_run")


@pytest.fixture
def embedded(model, counts, tmp_path):
    """Embeds the tiny screen's raw counts, or other cells, through the script."""

    def run(cells: ad.AnnData = counts, name: str = "cells", **settings) -> ad.AnnData:
        cells.write_h5ad(tmp_path / f"{name}.h5ad")
        out = tmp_path / f"{name}-out.h5ad"
        given = [f"--model={model}", f"--cells={tmp_path / name}.h5ad", f"--out={out}"]
        embed_cells.main([*given, *(f"{key}={value}" for key, value in settings.items())])
        return ad.read_h5ad(out)

    return run


def test_every_cell_keeps_its_place_and_its_obs_and_gets_a_vector(embedded, counts, capsys):
    made = embedded()
    pd.testing.assert_frame_equal(made.obs, counts.obs, check_categorical=False)
    vectors = made.obsm["X_tiny_run"]
    assert vectors.shape == (120, WIDTH)
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors.round(6), axis=0)) == 120
    assert made.n_vars == 0
    said = capsys.readouterr().out
    assert "30 of 30 genes are in the vocabulary; 30 of the 30 genes that the model" in said
    assert made.uns["embedding"]["run"] == "tiny_run"


def test_vectors_depend_on_nothing_but_the_cell(embedded, counts, generator):
    """Not on the batch size, the order of cells and genes, the file's name, or other cells."""
    expected = embedded().obsm["X_tiny_run"]
    np.testing.assert_allclose(embedded(batch_size=7).obsm["X_tiny_run"], expected, atol=1e-5)
    cells, genes = generator.permutation(120)[:50], generator.permutation(30)
    some = embedded(counts[cells, genes].copy(), "others")
    np.testing.assert_allclose(some.obsm["X_tiny_run"], expected[cells], atol=1e-5)


def test_the_vector_is_the_output_at_cls_of_the_whole_cell(embedded, model, counts):
    """The same, made by hand for a cell with fewer genes than fit: bins, then the network."""
    few = counts.copy()
    few.X = few.X.toarray()
    few.X[0, 15:] = 0
    vector = embedded(few).obsm["X_tiny_run"][0]
    pretrained = read_pretrained(model)
    network = EMBEDDERS["masked_values"](pretrained, Embedding()).model.eval()
    network.load_state_dict(read_folder(model).state)
    detected = np.flatnonzero(few.X[0])
    values = few.X[0, detected]
    levels = np.quantile(values, np.linspace(0, 1, 50))
    low, high = np.digitize(values, levels), np.digitize(values, levels, right=True)
    bins = np.ceil((high - low) * 0.5 + low)
    ids = [pretrained.folder.vocabulary.ids[gene] for gene in few.var_names[detected]]
    cls = pretrained.folder.vocabulary.ids["<cls>"]
    with torch.inference_mode():
        made = network.embed(
            {
                "genes": torch.tensor([[cls, *ids]]),
                "values": torch.tensor([[0.0, *bins]], dtype=torch.float32),
                "places": torch.arange(len(ids) + 1),
                "starts": torch.tensor([0, len(ids) + 1], dtype=torch.int32),
            }
        )
    np.testing.assert_allclose(made[0].numpy(), vector, atol=1e-4)


def test_a_cell_without_known_genes_is_there_and_said_so(embedded, counts, capsys):
    empty = counts.copy()
    empty.X = empty.X.toarray()
    empty.X[[3, 9]] = 0
    vectors = embedded(empty).obsm["X_tiny_run"]
    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors[3], vectors[9])
    assert "2 cells have no gene that the model knows" in capsys.readouterr().out


def test_more_genes_of_a_cell_are_seen_where_it_is_asked_for(embedded):
    assert not np.allclose(
        embedded().obsm["X_tiny_run"], embedded(max_genes=64).obsm["X_tiny_run"], atol=1e-3
    )


def test_too_few_known_genes_are_an_error(embedded, counts, tmp_path):
    other = counts.copy()
    other.var_names = [*counts.var_names[:3], *(f"OTHER{i}" for i in range(27))]
    with pytest.raises(InputError, match=r"holds 10\.0% of its 30 genes; expected at least 50%"):
        embedded(other, "others")
    assert not (tmp_path / "others-out.h5ad").exists()
    few = embedded(other, "others", min_gene_match=0.05)
    assert few.obsm["X_tiny_run"].shape == (120, WIDTH)


def test_counts_are_copied_where_they_are_asked_for(embedded, counts):
    made = embedded(keep_counts="true")
    assert (made.X != counts.X).nnz == 0
    assert made.var_names.equals(counts.var_names)
    assert "X_tiny_run" in made.obsm


def test_several_files_of_an_atlas_follow_each_other(embedded, model, counts, tmp_path):
    expected = embedded().obsm["X_tiny_run"]
    for name, part in (("a", slice(70)), ("b", slice(70, 120))):
        counts[part].copy().write_h5ad(tmp_path / f"part_{name}.h5ad")
    atlas = {"rna": {"paths": [f"{tmp_path}/part_*.h5ad"]}, "batch_key": "batch"}
    out = tmp_path / "atlas.h5ad"
    given = [f"--model={model}", f"--atlas={json.dumps(atlas)}", f"--out={out}", "--run=mine"]
    embed_cells.main(given)
    made = ad.read_h5ad(out)
    assert made.obs_names.equals(counts.obs_names)
    assert made.obs["target_gene"].tolist() == counts.obs["target_gene"].tolist()
    np.testing.assert_allclose(made.obsm["X_mine"], expected, atol=1e-5)
    with pytest.raises(InputError, match="keep_counts copies one h5ad"):
        embed_cells.main([*given, "keep_counts=true"])


def test_a_folder_whose_record_was_changed_is_refused(model):
    settings = json.loads((model / "args.json").read_text())
    settings["vcpipe"]["record_digest"] = "0"
    (model / "args.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="was trained with the record 0, but holds"):
        read_pretrained(model)


def test_a_folder_that_does_not_say_how_cells_were_prepared_is_refused(model):
    (model / "record.json").unlink()
    with pytest.raises(InputError, match=r"lacks record\.json; cells can only be prepared as"):
        read_pretrained(model)


@pytest.mark.slow
def test_scanpy_can_draw_what_is_written(embedded):
    import scanpy as sc

    made = embedded()
    sc.pp.neighbors(made, use_rep="X_tiny_run")
    sc.tl.umap(made)
    assert np.isfinite(made.obsm["X_umap"]).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "masked_genes", "tokenizer": {"strategy": "rank_value", "max_genes": 20}},
        {"objective": "next_genes", "tokenizer": {"max_genes": 20}},
        {"objective": "masked_autoencoder", "tokenizer": {"max_genes": 20}},
        {
            "objective": "contrastive",
            "tokenizer": {},
            "contrastive": {"panels": {"panel_size_min": 8, "panel_size_max": 12}},
        },
        {
            "objective": "masked_values",
            "masked_values": {"mvc_weight": 1.0, "attention": "generative"},
        },
    ],
    ids=lambda its: its["objective"],
)
def test_cells_are_embedded_by_whatever_was_learned(screen, counts, tmp_path, settings):
    prepared = prepare(tmp_path / "corpus", screen)
    paths = tmp_path / "state", tmp_path / "model", tmp_path / "metrics.csv"
    alone = Process(0, 1, torch.device("cpu"))
    pretrain(*prepared, Pretrain(**(SETTINGS | settings)), "code", alone, *paths)
    counts.write_h5ad(tmp_path / "cells.h5ad")
    made = []
    for size in (7, 64):
        given = [f"--model={tmp_path}/model", f"--cells={tmp_path}/cells.h5ad", "--run=r"]
        embed_cells.main([*given, f"--out={tmp_path}/{size}.h5ad", f"batch_size={size}"])
        made.append(ad.read_h5ad(tmp_path / f"{size}.h5ad").obsm["X_r"])
    assert made[0].shape == (120, WIDTH)
    assert len(np.unique(made[0].round(6), axis=0)) > 100
    np.testing.assert_allclose(made[0], made[1], atol=1e-5)


def test_open_peaks_alone_give_the_vectors_that_training_has_of_the_same_cells(tmp_path):
    prepared = prepare_pairs(tmp_path / "corpus")
    changes = {"objective": "peaks_to_genes", "tokenizer": {"strategy": "paired_peaks"}}
    model = SETTINGS["model"] | {"dropout": 0.5}
    config = Pretrain(**(SETTINGS | changes | {"model": model}))
    paths = tmp_path / "state", tmp_path / "model", tmp_path / "metrics.csv"
    alone = Process(0, 1, torch.device("cpu"))
    pretrain(*prepared, config, "code", alone, *paths)
    source = paired_sources()[0]
    obs = source.labels.set_index(pd.Index(source.cells))
    peaks = pd.DataFrame(index=source.feature_names["atac"])
    ad.AnnData(source.counts["atac"], obs, peaks).write_h5ad(tmp_path / "atac.h5ad")
    out = tmp_path / "out.h5ad"
    atlas = json.dumps({"atac": {"paths": [str(tmp_path / "atac.h5ad")]}})
    embed_cells.main([f"--model={paths[1]}", f"--atlas={atlas}", f"--out={out}", "--run=r"])
    made = ad.read_h5ad(out)
    assert made.obs_names.tolist() == source.cells
    assert made.obs["cell_type"].astype(object).equals(obs["cell_type"].astype(object))

    learner = peaks_to_genes(PreparedCells(*prepared), config, empty_for(alone))
    learner.model.load_state_dict(read_folder(paths[1]).state)
    batches, positions = (
        learner.batches(StoreReader(prepared.store)),
        np.arange(len(prepared.store)),
    )
    batch = batches.batch(batches.reader.read(positions), positions, BatchDraw(0, 0))
    with torch.inference_mode():
        vectors = learner.model.eval().embed(to_device(batch, alone)).numpy()
    names = prepared.store.labels(positions, ["cell"])["cell"].to_pylist()
    expected = pd.DataFrame(vectors, index=names).loc[source.cells].to_numpy()
    np.testing.assert_allclose(made.obsm["X_r"], expected, atol=1e-5)
