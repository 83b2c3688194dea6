import pickle
import pickletools

import numpy as np
import pandas as pd
import pytest
import torch

from scripts.build_cell_graphs import main
from vcpipe.config.gears import Conversion
from vcpipe.data.gears import convert
from vcpipe.data.pairing import NOBODY, pair_controls, write_pairs
from vcpipe.data.screen import open_screen
from vcpipe.data.splits import draw_controls
from vcpipe.training import cell_graphs
from vcpipe.training.cell_graphs import write_cell_graphs


@pytest.fixture
def screen(counts, tmp_path):
    labels = counts.obs["target_gene"].astype(str).to_numpy(copy=True)
    labels[-5:] = "GENE11+GENE03"
    counts.obs["target_gene"] = pd.Categorical(labels)
    counts.write_h5ad(tmp_path / "raw.h5ad")
    convert(tmp_path / "raw.h5ad", "tiny", Conversion(), tmp_path / "screen.h5ad")
    return open_screen(tmp_path / "screen.h5ad")


@pytest.fixture
def paired(screen, generator):
    return pair_controls(screen, draw_controls(screen, 0), "screen", generator)


@pytest.fixture
def graphs(screen, paired, tmp_path, monkeypatch):
    monkeypatch.setattr(cell_graphs, "CELLS_PER_READ", 7)
    write_cell_graphs(tmp_path / "cell_graphs.pkl", screen, paired)
    return pickle.loads((tmp_path / "cell_graphs.pkl").read_bytes())


def test_every_cell_stands_beside_its_control_and_those_for_scoring_are_left_out(
    screen, paired, graphs
):
    values = screen.values(slice(0, len(screen.cells))).toarray()
    assert list(graphs) == list(pd.unique(screen.condition))
    assert len(graphs["ctrl"]) == 20
    for condition, cells in graphs.items():
        rows = np.flatnonzero((screen.condition == condition) & (paired != NOBODY))
        assert len(cells) == len(rows)
        for row, graph in zip(rows, cells, strict=True):
            assert graph.x.shape == (30, 1)
            assert graph.y.shape == (1, 30)
            assert graph.x.dtype == graph.y.dtype == torch.float32
            np.testing.assert_array_equal(graph.x.numpy()[:, 0], values[paired[row]])
            np.testing.assert_array_equal(graph.y.numpy()[0], values[row])
            assert graph.pert == condition


def test_a_control_cell_stands_beside_itself_without_perturbation(graphs):
    for graph in graphs["ctrl"]:
        assert torch.equal(graph.x.T, graph.y)
        assert graph.pert_idx == [-1]
        assert graph.de_idx == [-1] * 20


def test_perturbations_are_numbered_among_the_sorted_perturbed_genes(graphs):
    # GENE03, GENE07, GENE11, GENE19, GENE23
    assert graphs["GENE03+ctrl"][0].pert_idx == [0]
    assert graphs["GENE23+ctrl"][0].pert_idx == [4]
    assert graphs["GENE03+GENE11"][0].pert_idx == [0, 2]


def test_de_idx_are_the_top_twenty_of_the_conditions_ranking(screen, graphs):
    import anndata as ad

    ranked = ad.read_h5ad(screen.path).uns["rank_genes_groups_cov_all"]
    for condition in ("GENE07+ctrl", "GENE03+GENE11"):
        top = set(ranked[f"unknown_{condition}_1+1"][:20])
        expected = [place for place, gene in enumerate(screen.genes) if gene in top]
        assert graphs[condition][0].de_idx.tolist() == expected


def test_graphs_do_not_share_memory(graphs):
    first, second = graphs["ctrl"][:2]
    before = second.y.clone()
    first.y += 1
    first.x += 1
    assert torch.equal(second.y, before)


def test_pickling_remembers_one_cell_at_a_time(graphs, tmp_path):
    positions = [
        argument
        for opcode, argument, _ in pickletools.genops((tmp_path / "cell_graphs.pkl").read_bytes())
        if opcode.name in ("BINPUT", "LONG_BINPUT")
    ]
    assert len(positions) > 100 * 5
    assert max(positions) < 100


def test_an_error_midway_leaves_no_file(screen, paired, tmp_path, monkeypatch):
    monkeypatch.setattr(cell_graphs, "cell_graph", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_cell_graphs(tmp_path / "data_pyg" / "cell_graphs.pkl", screen, paired)
    assert list((tmp_path / "data_pyg").iterdir()) == []


def test_the_script_writes_the_same_file_for_the_same_pairs(screen, paired, tmp_path, capsys):
    others = np.where(screen.condition == "ctrl", paired, paired[-1])
    for name, pairs in (("a", paired), ("b", paired), ("c", others)):
        npz = tmp_path / f"{name}.npz"
        write_pairs(npz, pairs, {"data_digest": screen.data_digest})
        main([f"--cells={screen.path}", f"--pairs={npz}", f"--out={tmp_path}/{name}.pkl"])
    a, b, c = ((tmp_path / f"{name}.pkl").read_bytes() for name in "abc")
    assert a == b != c
    assert "100 graphs of 7 conditions" in capsys.readouterr().out


@pytest.mark.upstream
@pytest.mark.filterwarnings("ignore")
def test_graphs_have_the_fields_and_shapes_of_cell_gears(screen, paired, graphs):
    upstream = pytest.importorskip("gears.pertdata")
    import anndata as ad

    # Made without __init__, which downloads the GO terms.
    data = upstream.PertData.__new__(upstream.PertData)
    data.adata = ad.read_h5ad(screen.path)
    data.adata.obs["condition_name"] = data.adata.obs["condition_name"].astype(object)
    data.ctrl_adata = data.adata[data.adata.obs["condition"] == "ctrl"]
    data.pert_names = np.array(["GENE03", "GENE07", "GENE11", "GENE19", "GENE23"])
    for condition in ("ctrl", "GENE07+ctrl", "GENE03+GENE11"):
        cells = data.adata[paired != NOBODY]
        theirs = data.create_cell_graph_dataset(cells, condition)
        assert len(theirs) == len(graphs[condition])
        for mine, their in zip(graphs[condition], theirs, strict=True):
            assert set(mine.keys()) == set(their.keys())
            assert mine.x.shape == their.x.shape
            assert torch.equal(mine.y, their.y)
            assert list(mine.de_idx) == list(their.de_idx)
            assert mine.pert_idx == their.pert_idx
            assert mine.pert == their.pert
