"""A tiny screen, from its simulation to the .vcc file of the real cell-eval 0.8.2."""

import subprocess
import tarfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from tests.upstream.conftest import python_of
from tests.workflow.conftest import copy_of_the_project

pytestmark = pytest.mark.upstream

SUBMISSION = "results/package_submission/tiny/validation/train_mean"


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    workflow = copy_of_the_project(tmp_path_factory.mktemp("submission") / "project")
    (workflow.folder / ".venvs").mkdir()
    (workflow.folder / ".venvs/cell_eval").symlink_to(python_of("cell_eval").parents[1])
    workflow.run("results/simulate_screen/tiny/screen.h5ad")
    genes = ad.read_h5ad(workflow.folder / "results/simulate_screen/tiny/screen.h5ad").var_names
    # In another order than the screen's.
    (workflow.folder / "genes.csv").write_text("\n".join(sorted(genes, reverse=True)))
    lines = ("target_gene,n_cells,median_umi_per_cell", f"{genes[3]},7,900", f"{genes[5]},4,1200.5")
    (workflow.folder / "list.csv").write_text("\n".join(lines))
    with (workflow.folder / "tests/workflow/config.yaml").open("a") as file:
        file.write(
            "\ntarget_lists:\n"
            "  validation: {path: list.csv, split: simulation_1_0.75, genes: genes.csv}\n"
        )
    return workflow


@pytest.fixture(scope="module")
def made(workflow):
    counted = "set=eval.prediction.counts=true eval.prediction.library_sizes=listed"
    workflow.run(f"{SUBMISSION}.vcc", "--config", counted)
    return workflow.folder


def test_the_workflow_makes_a_submission_that_holds_what_was_predicted(made, tmp_path):
    with tarfile.open(made / f"{SUBMISSION}.vcc") as tar:
        tar.extractall(tmp_path, filter="data")
    assert (tmp_path / "watermark.txt").read_text() == "vcc-prep"
    subprocess.run(["zstd", "-q", "-d", tmp_path / "pred.h5ad.zst"], check=True)
    found = ad.read_h5ad(tmp_path / "pred.h5ad")
    predicted = ad.read_h5ad(made / "results/predict_perturbations/tiny/validation/train_mean.h5ad")
    screen = ad.read_h5ad(made / "results/convert_to_gears/tiny/perturb_processed.h5ad")
    controls = screen[screen.obs["condition"] == "ctrl"]
    numbers = found.obs["target_gene"].value_counts()
    assert sorted(numbers) == [4, 7, controls.n_obs]
    assert numbers["non-targeting"] == controls.n_obs
    assert found.X.dtype == np.float32
    assert found.var_names.tolist() == (made / "genes.csv").read_text().split()
    genes = predicted[:, found.var_names]
    np.testing.assert_array_equal(found.X[:11].toarray(), genes.X.toarray())
    names = pd.Index(screen.var["gene_name"]).get_indexer(found.var_names)
    np.testing.assert_array_equal(found.X[11:].toarray(), controls.X[:, names].toarray())
    depth = np.asarray(predicted.layers["counts"].sum(axis=1)).ravel()
    assert abs(np.median(depth[:7]) - 900) <= 1
    assert abs(np.median(depth[7:]) - 1200.5) <= 1


def test_the_table_of_checks_is_for_the_report(made):
    table = pd.read_csv(made / f"{SUBMISSION}.tsv", sep="\t", dtype=str)
    assert (table["found"] == table["expected"]).all()
    assert {"genes", "targets", "values as predicted"} <= set(table["what"])


def test_where_tar_fails_the_tool_goes_on_and_the_program_does_not(made):
    tool = made / "tar"
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    done = subprocess.run(
        [
            *(python_of("cell_eval"), "-m", "scripts.package_submission"),
            *("--predictions", "results/predict_perturbations/tiny/validation/train_mean.h5ad"),
            *("--cells", "results/convert_to_gears/tiny/perturb_processed.h5ad"),
            *("--targets", "list.csv", "--out", "out/x.vcc", "--checks", "out/x.tsv"),
        ],
        cwd=made,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{made}:/usr/bin:/bin", "PYTHONPATH": f"{made}:{made}/workflow"},
    )
    assert done.returncode == 2
    assert "error: cell-eval prep failed" in done.stderr
    assert not list((made / "out").iterdir())
