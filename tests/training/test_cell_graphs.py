import pickle
import pickletools

import numpy as np
import pandas as pd
import pytest
import torch

from scripts.build_cell_graphs import main
from vcpipe.config.datasets import Columns
from vcpipe.config.gears import CellGraphs, Conversion
from vcpipe.data.gears import convert
from vcpipe.data.gene_ontology import counted_genes
from vcpipe.data.pairing import NOBODY, pair_controls, write_pairs
from vcpipe.data.screen import open_screen
from vcpipe.data.splits import draw_controls
from vcpipe.errors import InputError
from vcpipe.training import cell_graphs
from vcpipe.training.cell_graphs import pert_indices, write_cell_graphs


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
    return graphs_of(tmp_path / "cell_graphs.pkl", screen, paired)


def graphs_of(path, screen, paired, **settings):
    written = write_cell_graphs(path, screen, paired, CellGraphs(**settings))
    graphs = pickle.loads(path.read_bytes())
    assert {condition: len(cells) for condition, cells in graphs.items()} == written
    return graphs


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


def test_layout_002_has_the_flags_of_the_perturbed_genes_beside_expression(
    screen, paired, graphs, tmp_path
):
    flagged = graphs_of(tmp_path / "flags.pkl", screen, paired, layout="0.0.2")
    columns = {"ctrl": [], "GENE23+ctrl": [23], "GENE03+GENE11": [3, 11]}
    assert list(flagged) == list(graphs)
    for condition, cells in flagged.items():
        for graph, plain in zip(cells, graphs[condition], strict=True):
            assert set(graph.keys()) == {"x", "y", "de_idx", "pert"}
            assert graph.x.shape == (30, 2)
            assert torch.equal(graph.x[:, :1], plain.x)
            assert torch.equal(graph.y, plain.y)
            assert list(graph.de_idx) == list(plain.de_idx)
            if condition in columns:
                assert graph.x[:, 1].nonzero().flatten().tolist() == columns[condition]
                assert set(graph.x[:, 1].tolist()) <= {0.0, 1.0}


def test_layout_002_flags_the_first_gene(counts, generator, tmp_path):
    # cell-gears 0.0.2 writes np.sign(index) when it predicts: nothing at index 0.
    labels = counts.obs["target_gene"].astype(str).replace("GENE07", "GENE00")
    counts.obs["target_gene"] = pd.Categorical(labels)
    screen = converted(counts, tmp_path)
    graphs = graphs_of(
        tmp_path / "a.pkl",
        screen,
        pair_controls(screen, draw_controls(screen, 0), "screen", generator),
        layout="0.0.2",
    )
    for graph in graphs["GENE00+ctrl"]:
        assert graph.x[:, 1].tolist() == [1.0] + [0.0] * 29


def converted(counts, tmp_path, **policies):
    counts.write_h5ad(tmp_path / "raw.h5ad")
    config = Conversion(dataset=Columns(**policies))
    convert(tmp_path / "raw.h5ad", "tiny", config, tmp_path / "converted.h5ad")
    return open_screen(tmp_path / "converted.h5ad")


def test_layout_002_refuses_targets_that_were_not_measured(counts, generator, tmp_path):
    labels = counts.obs["target_gene"].astype(str).replace("GENE07", "UNSEEN")
    counts.obs["target_gene"] = pd.Categorical(labels)
    screen = converted(counts, tmp_path, unknown_targets="keep")
    paired = pair_controls(screen, draw_controls(screen, 0), "screen", generator)
    with pytest.raises(InputError, match=r"UNSEEN\. Set datasets.<name>.unknown_targets to drop"):
        write_cell_graphs(tmp_path / "a.pkl", screen, paired, CellGraphs(layout="0.0.2"))
    assert graphs_of(tmp_path / "a.pkl", screen, paired)["UNSEEN+ctrl"][0].pert_idx == [4]


def test_pert_idx_counts_the_genes_that_gears_finds_in_gene2go(screen):
    # Neither measured nor perturbed: GEARS does not count it. GENE04 is not perturbed: it does.
    go_genes = {"GENE02A", "GENE03", "GENE04", "GENE07", "GENE11", "GENE19", "GENE23"}
    numbers = pert_indices(screen, go_genes)
    assert numbers["GENE03+ctrl"] == [0]
    assert numbers["GENE07+ctrl"] == [2]
    assert numbers["GENE03+GENE11"] == [0, 3]
    assert numbers["ctrl"] == [-1]


def test_perturbed_genes_without_a_go_term_are_refused(screen):
    with pytest.raises(InputError, match=r"2 perturbed genes .*gene2go: GENE07, GENE23\. GEARS"):
        pert_indices(screen, {"GENE03", "GENE11", "GENE19"})


def test_control_cells_kept_for_scoring_can_stand_beside_themselves(
    screen, paired, graphs, tmp_path
):
    everyone = np.where(paired == NOBODY, np.arange(len(paired)), paired)
    graphs_of(tmp_path / "everyone.pkl", screen, everyone)
    included = graphs_of(tmp_path / "included.pkl", screen, paired, include_scoring_controls=True)
    assert len(included["ctrl"]) == 2 * len(graphs["ctrl"])
    assert (tmp_path / "included.pkl").read_bytes() == (tmp_path / "everyone.pkl").read_bytes()


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


def test_the_pickle_names_only_what_every_version_of_its_packages_has(graphs, tmp_path):
    named = {
        argument
        for opcode, argument, _ in pickletools.genops((tmp_path / "cell_graphs.pkl").read_bytes())
        if opcode.name in ("GLOBAL", "STACK_GLOBAL")
    }
    assert named == {
        "builtins bytearray",
        "numpy ndarray",
        "torch Tensor",
        "torch_geometric.data.data Data",
    }


def test_graphs_pickled_again_are_the_same(graphs):
    again = pickle.loads(pickle.dumps(graphs))
    for condition, cells in again.items():
        for graph, first in zip(cells, graphs[condition], strict=True):
            assert list(graph.keys()) == list(first.keys())
            assert torch.equal(graph.x, first.x)
            assert torch.equal(graph.y, first.y)


def test_an_error_midway_leaves_no_file(screen, paired, tmp_path, monkeypatch):
    monkeypatch.setattr(cell_graphs, "_with_flags", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        graphs_of(tmp_path / "data_pyg" / "cell_graphs.pkl", screen, paired, layout="0.0.2")
    assert list((tmp_path / "data_pyg").iterdir()) == []


def test_the_script_writes_the_same_file_for_the_same_pairs(screen, paired, tmp_path, capsys):
    others = np.where(screen.condition == "ctrl", paired, paired[-1])
    for name, pairs in (("a", paired), ("b", paired), ("c", others)):
        npz = tmp_path / f"{name}.npz"
        write_pairs(npz, pairs, {"data_digest": screen.data_digest})
        files = [f"--cells={screen.path}", f"--pairs={npz}", f"--out={tmp_path}/{name}.pkl"]
        main([*files, "gene2go=perturbed"])
    a, b, c = ((tmp_path / f"{name}.pkl").read_bytes() for name in "abc")
    assert a == b != c
    assert "100 graphs of 7 conditions" in capsys.readouterr().out


def test_the_script_counts_the_genes_of_gene2go(screen, paired, tmp_path):
    pairs = tmp_path / "pairs.npz"
    write_pairs(pairs, paired, {"data_digest": screen.data_digest})
    terms = {gene: {"GO:1"} for gene in screen.genes.tolist()}
    (tmp_path / "gene2go_all.pkl").write_bytes(pickle.dumps(terms))
    out = tmp_path / "a.pkl"
    gene2go = f"gene2go={tmp_path}/gene2go_all.pkl"
    main([f"--cells={screen.path}", f"--pairs={pairs}", f"--out={out}", gene2go])
    assert pickle.loads(out.read_bytes())["GENE23+ctrl"][0].pert_idx == [23]


def test_without_gene2go_gears_would_read_other_genes():
    with pytest.raises(InputError, match=r"gene2go is not set.*to 'perturbed' where something"):
        counted_genes(CellGraphs())
    assert counted_genes(CellGraphs(layout="0.0.2")) is None
    assert counted_genes(CellGraphs(gene2go="perturbed")) is None


def test_layout_002_and_gene2go_contradict_each_other():
    with pytest.raises(ValueError, match=r"layout 0\.0\.2 has no pert_idx"):
        CellGraphs(layout="0.0.2", gene2go="gene2go_all.pkl")
