"""Which of several processes runs a test (pytest -n 2)."""

from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

PROJECT = Path(__file__).parents[1]
# They look at one workflow that has been run to its end.
FINISHED = ("tests/workflow/test_end_to_end.py", "tests/workflow/test_reruns.py")


class SharedFixturesOnce(LoadScopeScheduling):
    """A test goes to the process that is free; tests that share a slow fixture go to the same one.

    xdist's own `--dist loadgroup` does not see its marks under pytest 9.2:
    https://github.com/pytest-dev/pytest-xdist/issues/1386
    """

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def unit_of(nodeid: str) -> str:
    """What one process runs as a whole: a test, the tests of a file, or those of several."""
    file = nodeid.partition("::")[0]
    if file in FINISHED:
        return "finished"
    return file if has_shared_fixture(PROJECT / file) else nodeid


@cache
def has_shared_fixture(path: Path) -> bool:
    return 'scope="module"' in path.read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return SharedFixturesOnce(config, log)
