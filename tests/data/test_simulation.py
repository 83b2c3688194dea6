"""The simulated screen is reproducible, shaped like VCC's, and its truth is in its counts."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scripts import simulate_screen
from vcpipe.config.datasets import Simulation
from vcpipe.config.reading import read_section
from vcpipe.data import simulation
from vcpipe.data.simulation import gene_symbols, plan_screen, write_screen
from vcpipe.errors import InputError

SMALL = Simulation(num_cells=600, num_genes=240, num_targets=8, num_programs=4, downstream_genes=20)


@pytest.fixture(scope="module")
def plan() -> simulation.Plan:
    return plan_screen(Simulation())


@pytest.fixture(scope="module")
def truth(plan) -> ad.AnnData:
    return plan.truth


@pytest.fixture(scope="module")
def screen(plan, tmp_path_factory) -> ad.AnnData:
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    write_screen(path, plan)
    return ad.read_h5ad(path)


@pytest.fixture(scope="module")
def downstream_TG(truth) -> np.ndarray:
    """True effects on genes that are no targets."""
    return truth.X[:, ~truth.var_names.isin(truth.obs_names)].astype(float)


@pytest.fixture(scope="module")
def program_T(truth) -> np.ndarray:
    return truth.var.loc[truth.obs_names, "program"].to_numpy()


@pytest.fixture(scope="module")
def measured_TG(screen, truth) -> np.ndarray:
    """Log2 fold changes of the pooled counts, per count of all genes."""
    share = {
        label: np.asarray(screen.X[cells].sum(axis=0)).ravel() + 1
        for label, cells in screen.obs.groupby("target_gene", observed=True).indices.items()
    }
    share = {label: pooled / pooled.sum() for label, pooled in share.items()}
    return np.log2([share[target] / share["non-targeting"] for target in truth.obs_names])


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_script(folder, *overrides: str) -> dict[str, bytes]:
    names = ("--out", "screen.h5ad"), ("--truth", "truth.h5ad"), ("--network", "network.tsv")
    paths = [part for option, name in names for part in (option, str(folder / name))]
    small = [f"{key}={getattr(SMALL, key)}" for key in SMALL.model_fields_set]
    simulate_screen.main([*paths, *small, *overrides])
    return content(folder)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path):
    first = run_script(tmp_path / "first")
    assert first == run_script(tmp_path / "again")
    other = run_script(tmp_path / "other", "seed=8")
    assert all(first[name] != other[name] for name in first)


def test_counts_do_not_depend_on_how_many_are_written_at_once(tmp_path):
    plan = plan_screen(SMALL)
    made = []
    for blocks in (1, 2, 100):
        write_screen(tmp_path / f"{blocks}.h5ad", plan, blocks_per_write=blocks)
        made.append(ad.read_h5ad(tmp_path / f"{blocks}.h5ad"))
    assert [screen.shape for screen in made] == [(600, 240)] * 3
    for other in made[1:]:
        assert (other.X != made[0].X).nnz == 0
        assert other.obs.equals(made[0].obs)


def test_blocks_of_rows_are_drawn_independently(screen):
    depth = np.asarray(screen.X.sum(axis=1)).ravel()
    first, second = depth[: simulation.BLOCK], depth[simulation.BLOCK : 2 * simulation.BLOCK]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.3


def test_no_more_cells_are_in_memory_than_are_written_at_once(tmp_path, monkeypatch):
    sizes = []
    stack = simulation.sp.vstack

    def noted(parts, **options):
        sizes.append(sum(part.shape[0] for part in parts))
        return stack(parts, **options)

    monkeypatch.setattr(simulation.sp, "vstack", noted)
    write_screen(tmp_path / "screen.h5ad", plan_screen(SMALL), blocks_per_write=1)
    assert sizes == [256, 256, 88]


def test_an_interrupted_screen_leaves_no_file(tmp_path, monkeypatch):
    def broken(plan, block):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulation, "draw_counts", broken)
    with pytest.raises(KeyboardInterrupt):
        write_screen(tmp_path / "screen.h5ad", plan_screen(SMALL))
    assert list(tmp_path.iterdir()) == []


def test_a_screen_looks_like_vcc(screen):
    assert screen.shape == (3000, 1200)
    assert list(screen.obs) == ["target_gene", "guide_id", "batch"]
    assert screen.X.format == "csr"
    assert screen.X.dtype == np.float32
    assert screen.X.has_canonical_format
    assert screen.obs_names.is_unique
    assert screen.var_names.is_unique


def test_counts_are_non_negative_integers_of_the_asked_depth(screen):
    assert (screen.X.data > 0).all()
    assert (screen.X.data == np.round(screen.X.data)).all()
    assert screen.X.sum(axis=1).mean() == pytest.approx(5000, rel=0.1)


def test_controls_have_their_share_and_every_target_its_cells(screen, truth):
    num_cells = screen.obs["target_gene"].value_counts()
    assert num_cells["non-targeting"] == 510
    assert set(num_cells.index) == {"non-targeting", *truth.obs_names}
    assert num_cells.min() >= 30


def test_a_guide_has_one_target_and_a_target_two_or_three_guides(screen):
    pairs = screen.obs[["target_gene", "guide_id"]].drop_duplicates()
    assert pairs["guide_id"].is_unique
    assert set(pairs["target_gene"].value_counts()) == {2, 3}


def test_batches_differ_in_their_genes(screen):
    batch = (screen.obs["batch"] == "batch_1").to_numpy()
    mean = [np.asarray(screen.X[part].mean(axis=0)).ravel() + 0.01 for part in (batch, ~batch)]
    kept = mean[1] > 1
    assert np.log(mean[0] / mean[1])[kept].std() > 0.1


def test_targets_lose_about_the_true_share_of_their_expression(screen, truth, measured_TG):
    own = screen.var_names.get_indexer(truth.obs_names)
    lost = 1 - np.exp2(measured_TG[np.arange(len(own)), own])
    assert lost == pytest.approx(truth.obs["knockdown"].to_numpy(), abs=0.15)
    assert truth.obs["knockdown"].mean() == pytest.approx(0.8, abs=0.03)


def test_null_targets_change_themselves_only(truth):
    null = ~truth.obs["has_effect"].to_numpy()
    changed = truth.X != 0
    assert null.sum() == 6
    assert (changed[null].sum(axis=1) == 1).all()
    assert (changed[~null].sum(axis=1) > 30).all()


def test_targets_of_one_program_have_similar_effects_and_others_do_not(
    truth, downstream_TG, program_T
):
    effective = truth.obs["has_effect"].to_numpy()
    similarity = np.corrcoef(downstream_TG[effective])
    program = program_T[effective]
    same = program[:, None] == program
    pairs = ~np.eye(len(program), dtype=bool)
    assert similarity[same & pairs].mean() > 0.5
    assert abs(similarity[~same].mean()) < 0.1


def test_a_held_out_target_is_nearer_to_its_program_than_to_the_mean(
    truth, downstream_TG, program_T
):
    effective = truth.obs["has_effect"].to_numpy()
    of_mean, of_program = [], []
    for target in np.flatnonzero(effective):
        others = np.arange(len(effective)) != target
        mates = others & effective & (program_T == program_T[target])
        size = np.square(downstream_TG[target]).sum()
        for errors, known in ((of_mean, others), (of_program, mates)):
            missed = downstream_TG[known].mean(axis=0) - downstream_TG[target]
            errors.append(np.square(missed).sum() / size)
    assert np.mean(of_program) < 0.6 < np.mean(of_mean)


def test_unperturbed_cells_show_which_program_a_target_is_of(screen, truth, program_T):
    control = screen[screen.obs["target_gene"] == "non-targeting"].X.toarray()
    log = np.log1p(control / control.sum(axis=1, keepdims=True) * 1e4)
    standard_CG = (log - log.mean(axis=0)) / (log.std(axis=0) + 1e-6)
    own = truth.var_names.get_indexer(truth.obs_names)
    likeness_TG = standard_CG[:, own].T @ standard_CG / len(control)
    likeness_TG[np.arange(len(own)), own] = 0
    mean_TP = pd.DataFrame(likeness_TG.T).groupby(truth.var["program"].to_numpy()).mean().T
    assert (mean_TP.to_numpy().argmax(axis=1) == program_T).all()


def test_measured_changes_follow_the_truth(screen, truth, measured_TG):
    expressed = np.asarray(screen.X.mean(axis=0)).ravel() > 1
    for target in np.flatnonzero(truth.obs["has_effect"]):
        others = expressed & (truth.var_names != truth.obs_names[target])
        assert np.corrcoef(measured_TG[target, others], truth.X[target, others])[0, 1] > 0.6


def test_direct_downstream_genes_have_the_asked_effect_size():
    strong, weak = (
        np.abs(plan_screen(SMALL.model_copy(update={"effect_size": size})).network.weights_GG.data)
        for size in (2.0, 0.5)
    )
    assert strong == pytest.approx(4 * weak)
    assert np.median(strong) * -np.log2(1 - 0.8) == pytest.approx(2.0, rel=0.1)


def test_the_network_file_holds_every_edge_by_name(tmp_path):
    run_script(tmp_path)
    network = plan_screen(SMALL).network
    edges = pd.read_csv(tmp_path / "network.tsv", sep="\t")
    assert list(edges) == ["regulator", "gene", "weight"]
    assert len(edges) == network.weights_GG.nnz
    assert not (edges["regulator"] == edges["gene"]).any()
    number = {gene: column for column, gene in enumerate(network.genes)}
    for edge in edges.head(20).itertuples():
        weight = network.weights_GG[number[edge.regulator], number[edge.gene]]
        assert edge.weight == pytest.approx(weight, rel=1e-4)


def test_symbols_are_real_while_they_last_and_never_stand_twice():
    symbols = gene_symbols(5000)
    assert symbols[0] == "RPL3"
    assert symbols[1199][:3] != "SIM"
    assert symbols[-1].startswith("SIM0")
    assert len(set(symbols)) == 5000


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["num_targets=2000", "num_cells=90000"], "num_targets is 2000; expected at most 400"),
        (["num_programs=60"], "downstream_genes is 40; expected fewer than the 20 genes"),
        (["num_cells=300"], "num_cells is 300: 51 controls and 249 cells of 40 targets; expected"),
        (["control_fraction=0.001"], "3 controls and 2997 cells .* change control_fraction"),
        (["knockdown=1.0"], "knockdown is 1.0; expected less than 1"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        read_section(Simulation, None, overrides)


def test_the_largest_allowed_number_of_targets_can_be_drawn():
    settings = SMALL.model_copy(update={"num_targets": 80, "num_cells": 1200})
    plan = plan_screen(Simulation.model_validate(settings.model_dump()))
    assert len(set(plan.network.targets_T)) == 80


def test_the_script_says_what_it_made(tmp_path, capsys):
    run_script(tmp_path)
    said = capsys.readouterr().out
    assert said == f"600 cells, 240 genes, 8 targets in {tmp_path / 'screen.h5ad'}\n"
