"""Our files in the real cell-gears 0.1.2, offline: read, compared, and trained on."""

import json
import pickle
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from scripts import build_cell_graphs, split_perturbations
from tests.rankings import assert_ties_alone_differ
from vcpipe.data.screen import Screen, open_screen

pytestmark = pytest.mark.upstream


@pytest.fixture(scope="module")
def folder(write_screen, tmp_path_factory) -> Path:
    """A small simulated screen as our scripts leave it, and what GEARS would download."""
    folder = tmp_path_factory.mktemp("upstream")
    # So few counts that some genes drop out under a perturbation.
    cells = write_screen(folder, depth=80, change=silence_genes)
    # Under seed 1 GEARS finds our split by its own name for it; under seed 2 it draws one itself.
    for seed, split in ((1, "tiny/splits/tiny_simulation_1_0.75"), (2, "custom")):
        split_perturbations.main(
            [
                *(f"--cells={cells}", f"--table={folder}/{seed}.tsv"),
                *(f"--pickle={folder / split}.pkl", f"--subgroup={folder / split}_subgroup.pkl"),
                f"seed={seed}",
            ]
        )
    # GO terms of the targets, of every other measured gene, and of one that was not measured: their
    # programs, and one term that all of them share.
    truth = ad.read_h5ad(folder / "truth.h5ad")
    programs = truth.var["program"].astype(str)
    known = {*truth.obs_names, *programs.index[::2]}
    terms = {gene: {"GO:0", f"GO:program {programs[gene]}"} for gene in sorted(known)}
    terms["AAA"] = {"GO:0"}
    (folder / "gene2go_all.pkl").write_bytes(pickle.dumps(terms))
    build_cell_graphs.main(
        [
            *(f"--cells={cells}", f"--pairs={folder}/pairs.npz"),
            f"--out={folder}/tiny/data_pyg/cell_graphs.pkl",
            f"gene2go={folder}/gene2go_all.pkl",
        ]
    )
    (folder / "data").mkdir()
    return folder


def silence_genes(raw: Path, targets: list[str]) -> None:
    """Take all counts of one gene, and another's from control cells: neither is a dropout."""
    cells = ad.read_h5ad(raw)
    never, not_in_controls = np.flatnonzero(~cells.var_names.isin(targets))[-2:]
    counts = cells.X.toarray()
    counts[:, never] = 0
    counts[cells.obs["target_gene"] == "non-targeting", not_in_controls] = 0
    cells.X = sp.csr_matrix(counts)
    cells.write_h5ad(raw)


@pytest.fixture(scope="module")
def screen(folder) -> Screen:
    return open_screen(folder / "tiny/perturb_processed.h5ad")


@pytest.fixture(scope="module")
def theirs(run_gears, folder) -> dict:
    """What tests/upstream/train_gears.py says."""
    done = run_gears("train_gears.py", folder)
    assert "Local copy of pyg dataset is detected" in done.stderr
    assert "Local copy of split is detected" in done.stderr
    return json.loads(done.stdout)


def test_gears_derives_our_columns(screen, theirs):
    ours = ad.read_h5ad(screen.path).obs
    assert {key: ours[key].tolist() for key in theirs["obs"]} == theirs["obs"]


def test_gears_computes_our_dropouts(screen, theirs):
    ours = ad.read_h5ad(screen.path).uns
    for key in ("non_zeros_gene_idx", "non_dropout_gene_idx"):
        assert {name: list(values) for name, values in ours[key].items()} == theirs["uns"][key]
    # Were nothing dropped, or the two the same, the comparison would say little.
    assert any(len(kept) < len(screen.genes) for kept in theirs["uns"][key].values())
    assert theirs["uns"]["non_zeros_gene_idx"] != theirs["uns"]["non_dropout_gene_idx"]


def test_gears_ranks_genes_as_we_do_except_equal_scores(screen, theirs):
    ours = ad.read_h5ad(screen.path)
    assert_ties_alone_differ(ours, theirs["uns"]["rank_genes_groups_cov_all"], np.float32)


def test_gears_finds_our_split_under_its_own_name(folder, theirs):
    split = folder / "tiny/splits/tiny_simulation_1_0.75.pkl"
    subgroup = folder / "tiny/splits/tiny_simulation_1_0.75_subgroup.pkl"
    assert theirs["found"]["lists"] == pickle.loads(split.read_bytes())
    assert theirs["found"]["subgroups"] == pickle.loads(subgroup.read_bytes())


def test_gears_takes_our_split_as_a_custom_one(folder, theirs):
    assert theirs["custom"] == pickle.loads((folder / "custom.pkl").read_bytes())


def test_gears_draws_our_split_itself(folder, theirs):
    ours = pickle.loads((folder / "custom.pkl").read_bytes())
    assert {name: sorted(members) for name, members in theirs["drawn"]["lists"].items()} == {
        name: sorted(members) for name, members in ours.items()
    }
    ours = pickle.loads((folder / "custom_subgroup.pkl").read_bytes())
    assert theirs["drawn"]["subgroups"] == ours


def test_loaders_hold_one_column_of_control_expression_a_cell(theirs):
    for loader in theirs["graphs"].values():
        assert loader["num_graphs"] == 16
        assert loader["x"] == [16 * 100, 1]
        assert loader["y"] == [16, 100]


def test_every_graph_holds_the_cell_and_the_control_that_we_paired(paired, theirs):
    graphs = [graph for loader in theirs["graphs"].values() for graph in loader["cells"]]
    assert {graph["cell"]: (graph["control"], graph["pert"]) for graph in graphs} == paired
    assert len(graphs) == len(paired)


def test_indices_in_a_graph_mean_the_same_genes_to_gears(screen, theirs):
    ranked = theirs["uns"]["rank_genes_groups_cov_all"]
    # More than the perturbed genes, and not all that gene2go holds.
    assert len(theirs["pert_names"]) > 12
    assert "AAA" not in theirs["pert_names"]
    for loader in theirs["graphs"].values():
        for graph in loader["cells"]:
            if graph["pert"] == "ctrl":
                assert graph["pert_idx"] == [-1]
                continue
            names = [theirs["pert_names"][index] for index in graph["pert_idx"]]
            assert [*names, "ctrl"] == graph["pert"].split("+")
            top = ranked[f"unknown_{graph['pert']}_1+1"][:20]
            assert {screen.genes[index] for index in graph["de_idx"]} == set(top)


def test_gears_learns_from_our_files(theirs):
    for losses in (theirs["mse_before"], theirs["mse_after"]):
        assert set(losses) == {"train_loader", "val_loader", "test_loader"}
        assert np.isfinite(list(losses.values())).all()
    print("mse before and after an epoch:", theirs["mse_before"], theirs["mse_after"])
    assert theirs["mse_after"]["train_loader"] < theirs["mse_before"]["train_loader"]
    assert len(theirs["predicted"]) == 100
    assert np.isfinite(theirs["predicted"]).all()
