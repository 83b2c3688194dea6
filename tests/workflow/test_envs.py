"""The conda envs: exact pins, in step with the lock files, enough for their rules."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.utils import canonicalize_name

from scripts.pin_envs import env_texts
from vcpipe.provenance import PROJECT, reachable

ENVS = env_texts()


def rule_envs() -> dict[str, str]:
    """Rule -> env file, from the rules' text."""
    found = {}
    for path in (PROJECT / "workflow/rules").glob("*.smk"):
        parts = re.split(r"^rule (\w+):$", path.read_text(), flags=re.MULTILINE)
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            found[name] = re.search(r'conda:\s+"\.\./\.\./envs/(\w+)\.yaml"', body)[1]
    return found


def pip_lines(name: str) -> list[str]:
    env = yaml.safe_load((PROJECT / "envs" / f"{name}.yaml").read_text())
    return next(part["pip"] for part in env["dependencies"] if isinstance(part, dict))


@pytest.mark.parametrize("name", ENVS)
def test_an_env_is_what_pin_envs_writes(name):
    assert (PROJECT / "envs" / f"{name}.yaml").read_text() == ENVS[name]


@pytest.mark.parametrize("name", ENVS)
def test_an_env_has_exact_pins_and_two_channels(name):
    env = yaml.safe_load((PROJECT / "envs" / f"{name}.yaml").read_text())
    assert env["channels"] == ["conda-forge", "nodefaults"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.]+", line) for line in pip_lines(name))


def test_every_rule_has_an_env_and_every_env_a_rule():
    assert set(rule_envs().values()) == set(ENVS)


@pytest.mark.parametrize(("rule", "env"), sorted(rule_envs().items()))
def test_an_env_holds_all_that_its_rule_imports(rule, env):
    pinned = {canonicalize_name(line.partition("==")[0]) for line in pip_lines(env)}
    owners = packages_distributions()
    for path in reachable(PROJECT / "scripts" / f"{rule}.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for root in {name.split(".")[0] for name in names}:
                if root in sys.stdlib_module_names or root in {"vcpipe", "scripts"}:
                    continue
                # A package of another env is not here; its name is that of its module.
                needed = {canonicalize_name(owner) for owner in owners.get(root, [root])}
                assert needed & pinned, f"{path.name} imports {root}, which envs/{env}.yaml lacks"
