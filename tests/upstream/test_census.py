"""fetch_census in the real cellxgene_census 1.18.0, on a small census of our own, offline."""

import hashlib
import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from tests.upstream.conftest import python_of
from tests.workflow.conftest import copy_of_the_project

pytestmark = pytest.mark.upstream

ODD = """3' "x" \\ y"""  # quotes of both kinds, and a backslash


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    """More cells than one read takes; some have no counts."""
    generator = np.random.default_rng(4)
    counts = generator.poisson(0.3, size=(9000, 30)).astype(np.float32)
    counts[[0, 2047, 2048, 4096, 8999]] = 0
    numbers = np.arange(len(counts))
    obs = pd.DataFrame(
        {
            "tissue": pd.Categorical(np.array(["brain", "heart", ODD])[numbers % 3]),
            "cell type": pd.Categorical(np.array(["B", "T"])[numbers // 4500]),
            "donor_id": pd.Categorical([f"donor {number % 7}" for number in numbers]),
            "is_primary_data": numbers % 2 == 0,
            "days": numbers % 5 - 2,
            "share": numbers % 4 / 2,
            "nnz": (counts > 0).sum(axis=1).astype(np.int64),
        },
        index=[f"cell{number}" for number in numbers],
    )
    names = {"feature_name": [f"GENE{number // 2}" for number in range(30)]}
    var = pd.DataFrame(names, index=[f"ENSG{number:03d}" for number in range(30)])
    return ad.AnnData(sp.csr_matrix(counts), obs, var)


@pytest.fixture(scope="module")
def census(cells, run_offline, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("census")
    cells.write_h5ad(folder / "cells.h5ad")
    done = run_offline("census", "make_census.py", folder / "cells.h5ad", folder / "soma")
    assert done.returncode == 0, done.stderr
    return folder / "soma"


@pytest.fixture
def run(census, run_offline, tmp_path):
    """Run the script on our census, or on that of uri=..."""
    files = (f"--out={tmp_path}/cells.h5ad", f"--query={tmp_path}/query.json")

    def run(*settings: str):
        return run_offline("census", "scripts.fetch_census", *files, f"uri={census}", *settings)

    return run


@pytest.fixture
def fetch(run, tmp_path):
    """The cells of a query, and what is written beside them."""

    def fetch(*settings: str) -> tuple[ad.AnnData, dict]:
        done = run(*settings)
        assert done.returncode == 0, done.stderr
        query = json.loads((tmp_path / "query.json").read_text())
        return ad.read_h5ad(tmp_path / "cells.h5ad"), query

    return fetch


def assert_same_cells(found: ad.AnnData, cells: ad.AnnData, wanted: np.ndarray) -> None:
    rows = np.flatnonzero(wanted)
    assert 0 < len(rows) < len(cells)
    assert found.obs_names.tolist() == [str(row) for row in rows]
    assert abs(found.X - cells.X[rows]).nnz == 0


def test_a_census_comes_back_as_it_is(fetch, cells):
    found, query = fetch("obs_columns=[tissue, days]")
    assert isinstance(found.X, sp.csr_matrix)
    assert found.X.dtype == np.float32
    assert found.X.has_sorted_indices
    assert abs(found.X - cells.X).nnz == 0
    assert found.obs_names.tolist() == [str(number) for number in range(len(cells))]
    assert found.obs.columns.tolist() == ["tissue", "days"]
    assert found.obs["tissue"].tolist() == cells.obs["tissue"].tolist()
    assert found.var_names.tolist() == cells.var_names.tolist()
    assert found.var["feature_id"].tolist() == cells.var_names.tolist()
    assert found.var["feature_name"].tolist() == cells.var["feature_name"].tolist()
    assert query["num_entries"] == cells.X.nnz
    assert json.loads(found.uns["census"]) == query


def test_a_filter_takes_the_cells_that_a_table_would(fetch, cells):
    found, query = fetch("filters={tissue: [brain, heart], is_primary_data: true, days: 1}")
    obs = cells.obs
    wanted = obs["tissue"].isin(["brain", "heart"]) & obs["is_primary_data"] & (obs["days"] == 1)
    assert_same_cells(found, cells, wanted)
    assert found.obs["tissue"].cat.categories.tolist() == ["brain", "heart"]
    assert query["obs_value_filter"] == (
        "tissue in ['brain', 'heart'] and is_primary_data == True and days == 1"
    )


def test_quotes_and_backslashes_reach_the_census(fetch, cells):
    found, _ = fetch("filters=" + json.dumps({"tissue": ODD, "cell type": ["B", ODD]}))
    wanted = (cells.obs["tissue"] == ODD) & (cells.obs["cell type"] == "B")
    assert_same_cells(found, cells, wanted)
    found, _ = fetch("filters=" + json.dumps({"tissue": [ODD, "brain"]}))
    assert_same_cells(found, cells, cells.obs["tissue"] != "heart")


def test_lists_of_any_kind_reach_the_census(fetch, cells):
    found, _ = fetch("filters={days: [-2, 1], share: [0.5, 1], is_primary_data: [false, true]}")
    assert_same_cells(
        found, cells, cells.obs["days"].isin([-2, 1]) & cells.obs["share"].isin([0.5, 1])
    )


def test_a_filter_as_text_is_passed_on(fetch, cells):
    found, _ = fetch("obs_value_filter=tissue not in ['brain'] and (days < 0 or nnz > 15)")
    obs = cells.obs
    wanted = (obs["tissue"] != "brain") & ((obs["days"] < 0) | (obs["nnz"] > 15))
    assert_same_cells(found, cells, wanted)
    assert found.obs.columns.tolist() == ["tissue", "days", "nnz"]


def test_genes_are_taken_by_their_own_filter(fetch, cells):
    found, query = fetch("var_value_filter=feature_name in ['GENE7', 'GENE2']", "filters={days: 0}")
    rows, columns = cells.obs["days"] == 0, [4, 5, 14, 15]
    assert found.var["feature_name"].tolist() == ["GENE2", "GENE2", "GENE7", "GENE7"]
    assert abs(found.X - cells.X[np.flatnonzero(rows)][:, columns]).nnz == 0
    assert query["num_genes"] == 4


def test_the_query_says_which_cells_of_which_release(fetch, census):
    _, query = fetch("filters={days: 2}")
    joinids = np.arange(4, 9000, 5, dtype="<i8")
    assert query["soma_joinid"]["cells"] == hashlib.sha256(joinids.tobytes()).hexdigest()
    assert (query["num_cells"], query["num_genes"]) == (1800, 30)
    release = {"census_build_date": "2025-01-30", "census_schema_version": "2.1.0"}
    assert query["release"] == {"uri": str(census), **release}
    assert query["asked"]["filters"] == {"days": 2}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "filters={organ: brain}",
            "no column organ of cells; expected among soma_joinid, .*tissue",
        ),
        ("obs_columns=[donor]", "no column donor of cells; expected among .*donor_id"),
        ("obs_value_filter=tissue == brain", "no column brain of cells.* text stands in quotes"),
        ("var_value_filter=name == 'A'", "no column name of genes; expected among .*feature_name"),
        ("filters={days: 1.5}", "filters.days is 1.5, but days holds whole numbers"),
        ("filters={tissue: 3}", "filters.tissue is 3, but tissue holds text"),
        (
            "filters={tissue: [brian], days: 1}",
            "No cell of Homo sapiens fits tissue == 'brian' and days == 1. "
            "tissue is never brian; it is .*brain, heart",
        ),
        ("obs_value_filter=days > 7", "No cell of Homo sapiens fits days > 7"),
        ("var_value_filter=feature_id == 'A'", "No gene of Homo sapiens fits feature_id == 'A'"),
        ("obs_value_filter=tissue.x == 'A'", "cannot be read: .*dot operator.* Check the filters"),
        ("organism=Mus musculus", "organism is 'Mus musculus'; the census holds Homo sapiens"),
        ("uri=/nowhere", "/nowhere is no census .*expected a SOMA collection with census_data"),
    ],
)
def test_a_wrong_query_is_one_message(run, tmp_path, setting, message):
    done = run(setting)
    assert done.returncode == 2
    assert re.search(f"^error: .*{message}", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_part_of_a_census_is_no_census(run, census):
    done = run(f"uri={census}/census_data")
    assert "holds homo_sapiens; expected census_data" in done.stderr


def test_without_a_network_the_public_census_is_one_message(run):
    done = run("uri=null")
    assert done.returncode == 2
    assert done.stderr.startswith("error: The list of the census's releases cannot be reached: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def mirror(census, tmp_path):
    """A server that lists two releases, as the public one does; both are our census."""
    folder = tmp_path / "server"
    folder.mkdir()
    release = {
        "release_date": None,
        "soma": {"uri": str(census), "s3_region": None},
        "h5ads": {"uri": str(census), "s3_region": None},
        "flags": {"lts": True, "retracted": False},
    }
    builds = {day: release | {"release_build": day} for day in ("2024-07-01", "2025-01-30")}
    mirrors = {"default": "here", "here": {"provider": "file", "base_uri": "/", "region": None}}
    (folder / "release.json").write_text(json.dumps({"stable": "2025-01-30", **builds}))
    (folder / "mirrors.json").write_text(json.dumps(mirrors))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("version", "warned"), [("stable", True), ("2024-07-01", False)])
def test_a_moving_version_is_warned_of_with_the_release_it_is_today(
    run_offline, mirror, tmp_path, version, warned
):
    files = (f"--out={tmp_path}/cells.h5ad", f"--query={tmp_path}/query.json")
    settings = (f"census_version={version}", "filters={days: 2}")
    program = ("fetch_from_mirror.py", mirror, *files, *settings)
    done = run_offline("census", *program, NO_PROXY="127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert ("write census_version: 2025-01-30 to get the same cells" in done.stderr) == warned
    query = json.loads((tmp_path / "query.json").read_text())
    assert query["release"]["version"] == ("2025-01-30" if warned else "2024-07-01")
    assert query["num_cells"] == 1800


def test_an_unknown_release_is_refused_with_the_known_ones(run_offline, mirror, tmp_path):
    files = (f"--out={tmp_path}/cells.h5ad", f"--query={tmp_path}/query.json")
    program = ("fetch_from_mirror.py", mirror, *files, "census_version=2023-01-01")
    done = run_offline("census", *program, NO_PROXY="127.0.0.1")
    assert done.returncode == 2
    assert (
        "'2023-01-01'; expected stable, latest or a release: 2025-01-30, 2024-07-01" in done.stderr
    )


def test_the_rule_runs_in_its_own_env_and_keeps_the_columns_that_keys_name(census, cells, tmp_path):
    workflow = copy_of_the_project(tmp_path / "project")
    (workflow.folder / ".venvs").mkdir()
    (workflow.folder / ".venvs/census").symlink_to(python_of("census").parents[1])
    with (workflow.folder / "tests/workflow/config.yaml").open("a") as file:
        query = f"{{uri: {census}, filters: {{tissue: heart}}, obs_columns: [days]}}"
        keys = "donor_key: donor_id, cell_type_key: cell type, obs_columns: [share]"
        file.write(f"\natlases:\n  heart: {{census: {query}, {keys}}}\n")
    workflow.run("results/fetch_census/heart/cells.h5ad")
    found = ad.read_h5ad(workflow.folder / "results/fetch_census/heart/cells.h5ad")
    assert_same_cells(found, cells, cells.obs["tissue"] == "heart")
    assert found.obs.columns.tolist() == ["tissue", "days", "cell type", "donor_id", "share"]
