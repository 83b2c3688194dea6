"""fetch_artifact in the real lamindb 2.12.1, on a local instance, offline."""

import hashlib
import json
import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

pytestmark = pytest.mark.upstream


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Where lamindb keeps its settings; the user's own stay as they are."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def versions() -> list[ad.AnnData]:
    generator = np.random.default_rng(0)
    made = []
    for num_cells in (5, 7):
        counts = sp.csr_matrix(generator.poisson(1.0, size=(num_cells, 4)).astype(np.float32))
        obs = pd.DataFrame({"n": range(num_cells)}, index=[f"c{row}" for row in range(num_cells)])
        made.append(ad.AnnData(counts, obs, pd.DataFrame(index=list("abcd"))))
    return made


@pytest.fixture(scope="module")
def instance(run_offline, versions, home, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lamindb")
    paths = [folder / "one.h5ad", folder / "two.h5ad"]
    for cells, path in zip(versions, paths, strict=True):
        cells.write_h5ad(path)
    made = folder / "instance"
    done = run_offline("lamindb", "make_lamindb.py", made, *paths, HOME=str(home))
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def uids(instance) -> list[str]:
    return json.loads((instance / "uids.json").read_text())


@pytest.fixture
def run(run_offline, tmp_path):
    """Run the script as somebody who has never used lamindb."""
    files = (f"--out={tmp_path}/cells.h5ad", f"--artifact={tmp_path}/artifact.json")
    stranger = tmp_path.with_name(f"{tmp_path.name}-home")
    stranger.mkdir()

    def run(*settings: str):
        program = ("scripts.fetch_artifact", *files, *settings)
        return run_offline("lamindb", *program, HOME=str(stranger))

    return run


@pytest.mark.parametrize(
    ("settings", "version"),
    [
        (["key=atlas/heart.h5ad"], 1),
        (["key=atlas/heart.h5ad", "version='0000'"], 0),
        (["key={stem}"], 1),
        (["key={first}"], 0),
        (["key=atlas/heart.h5ad", "version={first}"], 0),
    ],
)
def test_an_artifact_is_found_by_key_uid_and_version(
    run, instance, versions, uids, tmp_path, settings, version
):
    filled = [setting.format(stem=uids[0][:16], first=uids[0]) for setting in settings]
    done = run(f"instance={instance}", *filled)
    assert done.returncode == 0, done.stderr
    found = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert abs(found.X - versions[version].X).nnz == 0
    assert found.obs_names.tolist() == versions[version].obs_names.tolist()
    about = json.loads((tmp_path / "artifact.json").read_text())
    assert about["uid"] == uids[version]
    assert about["version"] == f"000{version}"
    assert about["is_latest"] == (version == 1)
    assert about["key"] == "atlas/heart.h5ad"
    assert about["size"] == (tmp_path / "cells.h5ad").stat().st_size


def test_reading_writes_nothing_into_the_instance(run, instance):
    def content() -> dict[str, str]:
        files = (path for path in instance.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = content()
    assert run(f"instance={instance}", "key=atlas/heart.h5ad").returncode == 0
    assert content() == before


def test_an_instance_is_opened_by_its_name_where_it_was_made(run_offline, instance, home, tmp_path):
    files = (f"--out={tmp_path}/cells.h5ad", f"--artifact={tmp_path}/artifact.json")
    settings = ("instance=anonymous/instance", "key=atlas/heart.h5ad")
    done = run_offline("lamindb", "scripts.fetch_artifact", *files, *settings, HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert ad.read_h5ad(tmp_path / "cells.h5ad").n_obs == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["key=nothing"], "no artifact with key or uid 'nothing'; its h5ad .* atlas/heart.h5ad"),
        (["key=labels.parquet"], r"labels.parquet \(.*\) is a .parquet; expected an h5ad"),
        (
            ["key=atlas/heart.h5ad", "version='7'"],
            "0 artifacts in version 7; expected one. Its versions are 0000, 0001",
        ),
        (["key=a", "instance=/nowhere"], "instance is '/nowhere'; expected account/instance, or"),
        (["key=a", "instance=/"], "/ is no LaminDB instance; expected /.lamindb/storage_uid.txt"),
        (["key=a", "instance=anonymous/other"], "anonymous/other cannot be opened: "),
        (["key=a", "instance=laminlabs/cellxgene"], "laminlabs/cellxgene cannot be opened: "),
    ],
)
def test_a_wrong_artifact_is_one_message(run, instance, tmp_path, settings, message):
    done = run(f"instance={instance}", *settings)
    assert done.returncode == 2
    assert re.search(f"^error: .*{message}", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_gone_is_one_message(run, instance, uids):
    file = instance / f".lamindb/{uids[1]}.h5ad"
    file.rename(instance / "kept")
    try:
        done = run(f"instance={instance}", "key=atlas/heart.h5ad")
    finally:
        (instance / "kept").rename(file)
    assert done.returncode == 2
    assert f"atlas/heart.h5ad ({uids[1]}) cannot be read at {instance}" in done.stderr
