"""Where a cell type is held out, truth, controls and effects are of the right cell types.

Cell types differ far more than perturbations do, and training perturbations are spread unevenly
over two of them: pooling any of them would show.
"""

# P perturbations, C cells, G genes

import json
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import ttest_ind

from scripts import (
    build_vocabulary,
    fit_baseline,
    fit_preprocessing,
    predict_perturbations,
    prepare_cells,
    score_perturbations,
)
from scripts.split_perturbations import main as split_perturbations
from vcpipe.config.splits import Split
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.model_cells import evaluated_conditions
from vcpipe.data.screen import names_digests, open_screen
from vcpipe.data.splits import draw_controls, read_controls, read_split, write_controls
from vcpipe.evaluation.baselines import BASELINES
from vcpipe.evaluation.profiles import measured_profiles, training_profiles
from vcpipe.evaluation.scoring import read_scores

GENES = [f"GENE{i:02d}" for i in range(30)]
TARGETS = GENES[:8]
CONDITIONS = [f"{target}+ctrl" for target in TARGETS]
NUM_CELLS = {"A": (24, 8), "B": (8, 24), "C": (16, 16)}  # of even and of odd perturbations
UNSEEN = {("GENE07+ctrl", "A"), ("GENE07+ctrl", "B")}  # there are no such cells
NUM_CONTROLS = 40
SPLIT = Split(method="held_out_context", context_key="cell_type", test_contexts=["C"])


def simulate(generator: np.random.Generator) -> ad.AnnData:
    """Counts whose profile is the cell type's times the perturbation's, the same in all types."""
    labels = [(cell_type, "ctrl") for cell_type in NUM_CELLS for _ in range(NUM_CONTROLS)]
    labels += [
        (cell_type, one)
        for cell_type, numbers in NUM_CELLS.items()
        for place, one in enumerate(CONDITIONS)
        for _ in range(0 if (one, cell_type) in UNSEEN else numbers[place % 2])
    ]
    level = {cell_type: generator.normal(3, 1, len(GENES)) for cell_type in NUM_CELLS}
    effect = {one: generator.normal(0, 0.3, len(GENES)) for one in CONDITIONS} | {"ctrl": 0}
    log_mean_CG = np.array([level[cell_type] + effect[one] for cell_type, one in labels])
    obs = pd.DataFrame(labels, columns=["cell_type", "condition"]).astype("category")
    obs["batch"] = pd.Categorical(["b0"] * len(obs))
    obs.index = [f"cell{number:04d}" for number in range(len(obs))]
    counts_CG = generator.poisson(np.exp(log_mean_CG)).astype(np.float32)
    return ad.AnnData(sp.csr_matrix(counts_CG), obs, pd.DataFrame(index=GENES))


@pytest.fixture
def files(tmp_path):
    """Paths of a screen, its split, controls and vocabulary."""
    cells = simulate(np.random.default_rng(0))
    cells.var["gene_name"] = GENES
    cells.layers["counts"] = cells.X.copy()
    total_C = cells.X.sum(axis=1).A1
    cells.X = (sp.diags(1e4 / total_C) @ cells.X).log1p().tocsr()
    settings = {"normalisation": {"target_sum": 1e4}}
    about = {"data_digest": "d1", "name": "types", "settings": settings}
    cells.uns["vcpipe"] = json.dumps(about | names_digests(cells.obs_names, GENES))
    paths = {name: tmp_path / name for name in ("cells", "split", "controls", "vocabulary")}
    cells.write_h5ad(paths["cells"])
    others = [f"--{name}={tmp_path / name}" for name in ("pickle", "subgroup")]
    split_perturbations(
        [
            *(f"--cells={paths['cells']}", f"--table={paths['split']}", *others),
            *("--config", SPLIT.model_dump_json()),
        ]
    )
    write_controls(paths["controls"], draw_controls(open_screen(paths["cells"]), seed=1))
    build_vocabulary.main([f"--screens={paths['cells']}", f"--out={paths['vocabulary']}"])
    return paths


@pytest.fixture
def opened(files):
    screen = open_screen(files["cells"])
    return screen, read_split(files["split"]), read_controls(files["controls"])


@pytest.fixture
def mean_of(files):
    """A function that gives the mean of some cells, by labels, read without our code."""
    cells = ad.read_h5ad(files["cells"])
    use = pd.read_csv(files["controls"], sep="\t").set_index("cell")["use"]
    cells.obs["use"] = use.reindex(cells.obs_names).fillna("")

    def mean(values: bool = False, **labels: str) -> np.ndarray:
        chosen = np.all([cells.obs[key] == value for key, value in labels.items()], axis=0)
        found = cells.X[chosen].toarray().astype(float)
        return found if values else found.mean(axis=0)

    return mean


def own_effect(mean_of, condition: str) -> np.ndarray:
    """The mean difference of a condition's train cells from the controls of their cell type."""
    parts = []
    for cell_type in ("A", "B"):
        cells_CG = mean_of(values=True, condition=condition, cell_type=cell_type)
        parts.append(cells_CG - mean_of(use="model", cell_type=cell_type))
    return np.concatenate(parts).mean(axis=0)


def test_the_truth_is_the_held_out_cell_types_against_its_own_scoring_controls(opened, mean_of):
    screen, split, controls = opened
    conditions = list(evaluated_conditions(split))
    assert sorted(conditions) == CONDITIONS
    found = measured_profiles(screen, split, controls, conditions)
    scoring_CG = mean_of(values=True, use="scoring", cell_type="C")
    np.testing.assert_allclose(found.scoring_control_G, scoring_CG.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        found.model_control_G, mean_of(use="model", cell_type="C"), rtol=1e-5
    )
    for place, condition in enumerate(conditions):
        cells_CG = mean_of(values=True, condition=condition, cell_type="C")
        np.testing.assert_allclose(found.mean_PG[place], cells_CG.mean(axis=0), rtol=1e-5)
        t_G = ttest_ind(cells_CG, scoring_CG, equal_var=False).statistic
        np.testing.assert_allclose(found.t_PG[place], t_G, rtol=1e-3)
    assert found.num_cells_P.tolist() == [16] * 8


def test_training_effects_are_measured_in_their_own_cell_type_and_added_to_the_held_out_controls(
    opened, mean_of
):
    screen, split, controls = opened
    training = training_profiles(screen, split, controls)
    control_G = mean_of(use="model", cell_type="C")
    np.testing.assert_allclose(training.control_G, control_G, rtol=1e-5)
    assert training.conditions == CONDITIONS[:7]
    for condition, mean_G in zip(training.conditions, training.mean_PG, strict=True):
        expected_G = control_G + own_effect(mean_of, condition)
        np.testing.assert_allclose(mean_G, expected_G, rtol=1e-4, atol=1e-5)
    measured = measured_profiles(screen, split, controls, CONDITIONS)
    np.testing.assert_allclose(measured.train_mean_G, training.mean_PG.mean(axis=0))


def scores_of(files, baseline: str, tmp_path) -> pd.Series:
    """Fit, predict and score a baseline with the scripts; the mean of each metric."""
    held_out = [f"--{name}={files[name]}" for name in ("cells", "split", "controls")]
    model, predicted = tmp_path / f"{baseline}.npz", tmp_path / f"{baseline}.h5ad"
    fit_baseline.main([*held_out, f"--baseline={baseline}", f"--out={model}"])
    predict_perturbations.main(
        [*held_out, f"--model={model}", f"--name={baseline}", f"--out={predicted}"]
    )
    out = tmp_path / f"scores_{baseline}"
    score_perturbations.main([*held_out, f"--predictions={predicted}", f"--out={out}"])
    table = read_scores(out).per_perturbation
    assert set(table.groupby("condition")["subgroup"].first().items()) == {
        *((one, "unseen_context") for one in CONDITIONS[:7]),
        ("GENE07+ctrl", "unseen_context_and_gene"),
    }
    return table.groupby("metric")["value"].mean()


def test_baselines_predict_in_the_held_out_cell_type(files, mean_of, tmp_path):
    found = {name: scores_of(files, name, tmp_path) for name in BASELINES}
    # A prediction from the controls of other cell types, or of all, is far off.
    elsewhere_G = mean_of(condition="ctrl", cell_type="A") - mean_of(
        condition="ctrl", cell_type="C"
    )
    for scores in found.values():
        assert scores["mse"] < 0.2 * (elsewhere_G**2).mean()
        assert scores["pearson"] > 0.9
    # The effects are those of training, so to know them is worth much.
    assert found["ridge_pca"]["pearson_delta"] > 0.6
    assert abs(found["no_change"]["pearson_delta"]) < 0.25


def test_no_change_predicts_the_models_controls_of_the_held_out_cell_type(files, mean_of, tmp_path):
    scores_of(files, "no_change", tmp_path)
    predicted = ad.read_h5ad(tmp_path / "no_change.h5ad")
    allowed = {row.tobytes() for row in mean_of(values=True, use="model", cell_type="C")}
    assert {row.tobytes() for row in predicted.X.toarray().astype(float)} == allowed


def spoil(files, screen, controls) -> None:
    """Nonsense in the held-out perturbed cells and the scoring controls."""
    scoring = np.array([controls.get(cell) == "scoring" for cell in screen.cells])
    rows = np.flatnonzero((screen.cell_type == "C") & (screen.condition != "ctrl") | scoring)
    assert len(rows) > 100
    with h5py.File(files["cells"], "r+") as file:
        for matrix in ("X", "layers/counts"):
            starts, values = file[f"{matrix}/indptr"][:], file[f"{matrix}/data"][:]
            for row in rows:
                values[starts[row] : starts[row + 1]] = 9
            file[f"{matrix}/data"][:] = values


@pytest.mark.parametrize("baseline", BASELINES)
def test_nothing_held_out_reaches_a_baseline(baseline, files, opened, tmp_path):
    def learned(folder: str) -> dict[str, bytes]:
        held_out = [f"--{name}={files[name]}" for name in ("cells", "split", "controls")]
        fit_baseline.main([*held_out, f"--baseline={baseline}", f"--out={tmp_path / folder}"])
        with np.load(tmp_path / folder) as arrays:
            return {name: arrays[name].tobytes() for name in arrays.files}

    clean = learned("clean")
    spoil(files, opened[0], opened[2])
    assert learned("spoilt") == clean


def test_nothing_held_out_reaches_a_corpus(files, opened, tmp_path):
    """Not what is fitted, and not what is stored: its shards are the same to the byte."""

    def prepared(folder: Path) -> dict[str, bytes]:
        corpus = [
            *(f"--{name}={files[name]}" for name in ("split", "controls", "vocabulary")),
            f"--screens={files['cells']}",
        ]
        fitted, store = folder / "fitted", folder / "store"
        fit_preprocessing.main([*corpus, f"--out={fitted}", "fit.hvg_selection=10"])
        prepare_cells.main(
            [*corpus, f"--fitted={fitted}", f"--out={store}", "group_by=[cell_type,condition]"]
        )
        found = [*fitted.iterdir(), *store.rglob("*.bin")]
        return {path.name: path.read_bytes() for path in found}

    screen, _, controls = opened
    clean = prepared(tmp_path / "clean")
    assert {"record.json", "hvg.csv", "genes.tsv", "rna_0000.bin"} <= set(clean)
    spoil(files, screen, controls)
    assert prepared(tmp_path / "spoilt") == clean

    store = open_store(tmp_path / "spoilt" / "store")
    seen = store.manifest["about"]["seen"]["d1"]
    assert seen["cell_type"] == ["A", "B"]
    assert "GENE07+ctrl" not in seen["condition"]
    labels = store.labels()
    assert set(labels["cell_type"].to_pylist()) == {"A", "B"}
    scoring = {cell for cell, use in controls.items() if use == "scoring"}
    assert not set(labels["cell"].to_pylist()) & scoring
