"""What is slow to make is made by one process: two would make it twice."""

import re

from tests.scheduling import FINISHED, PROJECT, pytest_xdist_make_scheduler, unit_of


def test_all_tests_on_the_finished_workflow_are_one_unit():
    users = set()
    for path in (PROJECT / "tests/workflow").glob("test_*.py"):
        text = path.read_text()
        if re.search(r"\(finished\b|\(edited\b", text) and "def finished(" not in text:
            users.add(str(path.relative_to(PROJECT)))
    assert users == set(FINISHED)
    assert {unit_of(f"{file}::test_any[{number}]") for file in users for number in (1, 2)} == {
        "finished"
    }


def test_tests_of_a_file_with_a_fixture_of_its_own_are_one_unit_and_others_stand_alone():
    shared, alone = "tests/workflow/test_atlas_reruns.py", "tests/workflow/test_dry_run.py"
    assert unit_of(f"{shared}::test_a") == unit_of(f"{shared}::test_b[x::y]") == shared
    assert unit_of(f"{alone}::test_a") != unit_of(f"{alone}::test_b")


def test_pytest_is_told_so(pytestconfig):
    """A hook that nobody calls would be passed over without a word."""
    hooks = pytestconfig.hook.pytest_xdist_make_scheduler.get_hookimpls()
    assert pytest_xdist_make_scheduler in [hook.function for hook in hooks]
