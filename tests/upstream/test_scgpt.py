"""Our files in the real scgpt 0.2.4 and cell-gears 0.0.2, offline: scGPT's tutorial on them."""

import json
import pickle
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from scripts import (
    build_cell_graphs,
    build_vocabulary,
    fit_preprocessing,
    prepare_cells,
    pretrain,
    split_perturbations,
)
from vcpipe.data.screen import Screen, open_screen, perturbed_genes

pytestmark = pytest.mark.upstream


@pytest.fixture(scope="module")
def folder(write_screen, tmp_path_factory) -> Path:
    """A small simulated screen and an encoder pretrained on it, as our scripts leave them."""
    folder = tmp_path_factory.mktemp("upstream")
    cells = write_screen(folder, depth=2000, change=put_a_target_first)
    table, controls = folder / "split.tsv", folder / "controls.tsv"
    split = folder / "tiny/splits/tiny_simulation_1_0.75"
    split_perturbations.main(
        [
            *(f"--cells={cells}", f"--table={table}"),
            *(f"--pickle={split}.pkl", f"--subgroup={split}_subgroup.pkl", "seed=1"),
        ]
    )
    build_cell_graphs.main(
        [
            *(f"--cells={cells}", f"--pairs={folder}/pairs.npz"),
            f"--out={folder}/tiny/data_pyg/cell_graphs.pkl",
            "layout=0.0.2",
        ]
    )
    pretrain_encoder(folder, cells, table, controls)
    return folder


def put_a_target_first(raw: Path, targets: list[str]) -> None:
    """cell-gears 0.0.2 itself overlooks a perturbed gene at index 0 when it predicts."""
    cells = ad.read_h5ad(raw)
    cells[:, [targets[0], *cells.var_names.drop(targets[0])]].copy().write_h5ad(raw)


def pretrain_encoder(folder: Path, cells: Path, table: Path, controls: Path) -> None:
    vocabulary, fitted, store = (folder / name for name in ("vocabulary", "fitted", "store"))
    corpus = [
        *(f"--screens={cells}", f"--split={table}", f"--controls={controls}"),
        f"--vocabulary={vocabulary}",
    ]
    build_vocabulary.main([f"--screens={cells}", f"--out={vocabulary}"])
    fit_preprocessing.main([*corpus, f"--out={fitted}"])
    prepare_cells.main([*corpus, f"--fitted={fitted}", f"--out={store}"])
    pretrain.main(
        [
            *(f"--store={store}", f"--vocabulary={vocabulary}", f"--fitted={fitted}"),
            f"--state={folder}/state",
            *(f"--out={folder}/pretrained", f"--metrics={folder}/metrics.csv", "corpus=tiny"),
            *("tokenizer.max_genes=64", "tokenizer.strategy=continuous_projection"),
            *("model.hidden_dim=32", "model.num_layers=2", "model.num_heads=4"),
            *("model.ffn_dim=32", "training.batch_size=32", "training.max_epochs=1"),
        ]
    )


@pytest.fixture(scope="module")
def screen(folder) -> Screen:
    return open_screen(folder / "tiny/perturb_processed.h5ad")


@pytest.fixture(scope="module")
def theirs(run_scgpt, folder) -> dict:
    """What tests/upstream/finetune_scgpt.py says."""
    done = run_scgpt("finetune_scgpt.py", folder)
    assert "Local copy of pyg dataset is detected" in done.stderr
    assert "Local copy of split is detected" in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def graphs(theirs) -> list[dict]:
    return [graph for loader in theirs["graphs"].values() for graph in loader["cells"]]


def test_cell_gears_finds_our_split_under_its_own_name(folder, theirs):
    split = folder / "tiny/splits/tiny_simulation_1_0.75.pkl"
    subgroup = folder / "tiny/splits/tiny_simulation_1_0.75_subgroup.pkl"
    assert theirs["set2conditions"] == pickle.loads(split.read_bytes())
    assert theirs["subgroup"] == pickle.loads(subgroup.read_bytes())


def test_loaders_hold_expression_and_flags(theirs):
    for loader in theirs["graphs"].values():
        assert loader["num_graphs"] == 16
        assert loader["x"] == [16 * 100, 2]
        assert loader["y"] == [16, 100]


def test_every_graph_holds_the_cell_and_the_control_that_we_paired(paired, graphs):
    assert {graph["cell"]: (graph["control"], graph["pert"]) for graph in graphs} == paired
    assert len(graphs) == len(paired)


def test_every_graph_flags_the_genes_of_its_condition(screen, graphs):
    assert f"{screen.genes[0]}+ctrl" in screen.condition
    for graph in graphs:
        assert graph["flagged"] == perturbed_genes(graph["pert"])
        assert graph["flags"] == ([0] if graph["pert"] == "ctrl" else [0, 1])


def test_de_idx_are_the_top_of_our_ranking(screen, graphs):
    ranked = ad.read_h5ad(screen.path).uns["rank_genes_groups_cov_all"]
    for graph in graphs:
        if graph["pert"] == "ctrl":
            assert graph["de_idx"] == [-1] * 20
            continue
        top = ranked[f"unknown_{graph['pert']}_1+1"][:20]
        assert {screen.genes[index] for index in graph["de_idx"]} == set(top)


def test_scgpt_takes_every_weight_of_our_encoder(theirs):
    assert theirs["loaded"]["taken"] == theirs["loaded"]["expected"]
    assert len(theirs["loaded"]["taken"]) == 9 + 12 * 2
    assert theirs["genes_without_id"] == 0


def test_scgpt_learns_from_our_files(theirs):
    print("losses:", theirs["losses"])
    print("mse before and after an epoch:", theirs["mse_before"], theirs["mse_after"])
    assert np.isfinite(theirs["losses"]).all()
    for name, before in theirs["mse_before"].items():
        assert theirs["mse_after"][name] < before


def test_scgpt_scores_its_predictions_by_our_rankings(theirs):
    print("metrics:", theirs["metrics"])
    names = {"pearson", "pearson_de", "pearson_delta", "pearson_de_delta", "mse_de"}
    for metrics in theirs["metrics"].values():
        assert set(metrics) == names
        assert np.isfinite(list(metrics.values())).all()
    assert theirs["metrics"]["test"]["pearson"] > 0.5
