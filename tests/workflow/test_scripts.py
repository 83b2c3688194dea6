"""Every program answers --help, quickly and without a heavy import."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPTS = sorted(path.stem for path in (PROJECT / "scripts").glob("[a-z]*.py"))
PROGRAM = """
import runpy, sys
sys.argv = ["{name}", "--help"]
try:
    runpy.run_module("scripts.{name}", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
heavy = {{"torch", "scanpy", "anndata", "matplotlib", "pandas"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_written_for_a_stranger_and_imports_nothing_heavy(name):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m scripts.{name}" in done.stdout


def rules() -> set[str]:
    lines = [
        line
        for path in (PROJECT / "workflow/rules").glob("*.smk")
        for line in path.read_text().splitlines()
    ]
    return {line.split()[1].rstrip(":") for line in lines if line.startswith("rule ")}


def test_every_rule_has_a_script_of_its_name_and_the_other_way_round():
    by_hand = {"show_config", "show_summary", "document_config", "pin_envs", "build_gene_aliases"}
    by_hand |= {"inspect_store", "import_config"}
    assert rules() == set(SCRIPTS) - by_hand


def test_scripts_are_short():
    for name in SCRIPTS:
        lines = (PROJECT / "scripts" / f"{name}.py").read_text().splitlines()
        assert len(lines) <= 80, f"{name}.py has {len(lines)} lines"


def test_wrong_input_is_one_message_without_a_traceback(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scripts.convert_to_gears", "--cells", tmp_path / "no.h5ad"),
            *("--name", "x", "--out", tmp_path / "out.h5ad", "--report", tmp_path / "out.json"),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "no.h5ad" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
