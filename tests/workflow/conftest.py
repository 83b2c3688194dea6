"""A copy of the project in which the tests may run, edit and break things."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.caching import _CacheLocator

from vcpipe.data.sparse_rows import machine_code

PROJECT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config", "envs", "profiles", "resources", "scripts", "tests", "workflow")
TINY, ATLAS = "tests/workflow/config.yaml", "tests/workflow/atlas.yaml"


def pytest_collection_modifyitems(items):
    """The longest tests come first, so that no process waits for another one's last."""
    items.sort(key=lambda item: not item.path.is_relative_to(PROJECT / "tests/workflow"))


class Workflow:
    def __init__(self, folder: Path):
        self.folder = folder

    def run(
        self, *arguments: str, profile: str = "demo", config: str = TINY, check: bool = True
    ) -> subprocess.CompletedProcess:
        """Run snakemake as a user does, with the tiny configuration in place of the demo's."""
        done = subprocess.run(
            self.command(*arguments, profile=profile, config=config),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def command(self, *arguments: str, profile: str = "demo", config: str = TINY) -> list[str]:
        # --configfile takes all that follows it, so it comes last.
        command = [sys.executable, "-m", "snakemake", "--profile", f"profiles/{profile}"]
        return [*command, *arguments, "--configfile", config]

    def planned(
        self,
        *arguments: str,
        target: str | tuple[str, ...] = "results/eval/summary.csv",
        profile: str = "demo",
        config: str = TINY,
    ) -> dict[str, int]:
        """The jobs that a dry run would run: {"pretrain": 1, ...}."""
        targets = (target,) if isinstance(target, str) else target
        done = self.run(*targets, "-n", *arguments, profile=profile, config=config)
        # The progress bar's logger writes to stderr, Snakemake's own to stdout.
        output = done.stdout + done.stderr
        rows = re.findall(r"^ *([a-z][a-z_ ]*?) +(\d+) *$", output, re.MULTILINE)
        jobs = {name.replace(" ", "_"): int(count) for name, count in rows}
        assert jobs.pop("total", 0) == sum(jobs.values())
        return jobs

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def copied(self, folder: Path) -> "Workflow":
        """With all results, which are as old as they were."""
        shutil.copytree(self.folder, folder, symlinks=True)
        share_machine_code(folder)
        return Workflow(folder)


def copy_of_the_project(folder: Path) -> Workflow:
    ignored = shutil.ignore_patterns("__pycache__", "data", "scgpt")
    folder.mkdir()
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            ignore = ignored if part == "resources" else shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / part, ignore=ignore)
        else:
            shutil.copy(source, folder / part)
    share_machine_code(folder)
    return Workflow(folder)


def share_machine_code(folder: Path) -> None:
    """Loops that are compiled in the project or in any copy of it serve all of them.

    numba names the folder of a package's machine code by the package's own path.
    """
    kept = machine_code("")
    for package in {path.parent for path in (PROJECT / "workflow/vcpipe/data").rglob("*.py")}:
        code = kept / _CacheLocator.get_suitable_cache_subpath(package / "loops.py")
        code.mkdir(parents=True, exist_ok=True)
        copy = folder / package.relative_to(PROJECT)
        place = folder / kept.relative_to(PROJECT)
        place.mkdir(parents=True, exist_ok=True)
        (place / _CacheLocator.get_suitable_cache_subpath(copy / "loops.py")).symlink_to(code)


@pytest.fixture
def fresh(tmp_path) -> Workflow:
    """Nothing has been run yet."""
    return copy_of_the_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    """The tiny DAG has been run to its end, once for all tests; leave it as it is."""
    workflow = copy_of_the_project(tmp_path_factory.mktemp("finished") / "project")
    workflow.run(
        "results/eval/summary.csv", "results/convert_to_gears/tiny/data_pyg/cell_graphs.pkl"
    )
    return workflow


@pytest.fixture
def edited(finished):
    """The finished workflow; edited files are put back after the test."""
    kept = {
        path: path.read_text()
        for part in ("workflow", "scripts", "config", "profiles", "tests/workflow")
        for path in (finished.folder / part).rglob("*")
        if path.suffix in {".py", ".smk", ".yaml"}
    }
    yield finished
    for path, text in kept.items():
        if path.read_text() != text:
            path.write_text(text)
