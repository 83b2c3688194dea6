"""What made a result: a digest of the code that a program can reach, and the project's version."""

import ast
import hashlib
from functools import cache
from pathlib import Path

from vcpipe import __version__

PROJECT = Path(__file__).parents[2]
ROOTS = {"vcpipe": PROJECT / "workflow", "scripts": PROJECT}


def code(rule: str) -> str:
    """Hash a rule's script and our modules that it imports, without comments and docstrings.

    Snakemake does not see an edited library module behind a `shell:` command; as a parameter of
    the rule this digest makes it rerun, and a changed comment does not. Settings are left out:
    their resolved values are parameters by themselves, and a reworded explanation changes none.
    """
    content = hashlib.sha256()
    settings = ROOTS["vcpipe"] / "vcpipe" / "config"
    for path in sorted(reachable(PROJECT / "scripts" / f"{rule}.py")):
        if path.is_relative_to(settings):
            continue
        content.update(f"{path.relative_to(PROJECT)}\n{_tree(path)}\n".encode())
    return content.hexdigest()[:16]


def code_version() -> str:
    """Version and digest of the whole library, stored in checkpoints."""
    content = hashlib.sha256()
    for path in sorted((PROJECT / "workflow" / "vcpipe").rglob("*.py")):
        content.update(f"{path.relative_to(PROJECT)}\n{_tree(path)}\n".encode())
    return f"{__version__}+{content.hexdigest()[:12]}"


def reachable(start: Path) -> set[Path]:
    """Files of ours that `start` imports, directly or through others, itself included."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += _imports(path)
    return seen


@cache
def _parsed(path: Path, modified: int) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def _module(path: Path) -> ast.Module:
    return _parsed(path, path.stat().st_mtime_ns)


def _imports(path: Path) -> list[Path]:
    found = []
    for node in ast.walk(_module(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            # `from vcpipe.data import splits` may name a module or a thing inside one.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            found += _files_of(name)
    return found


def _files_of(name: str) -> list[Path]:
    """The module's file and its packages' __init__ files; nothing for modules that are not ours."""
    root = ROOTS.get(name.split(".")[0])
    if root is None:
        return []
    parts = name.split(".")
    packages = [root.joinpath(*parts[:size], "__init__.py") for size in range(1, len(parts) + 1)]
    candidates = [*packages, root.joinpath(*parts).with_suffix(".py")]
    return [path for path in candidates if path.is_file()]


def _tree(path: Path) -> str:
    """The syntax tree as text, without docstrings, comments and line numbers."""
    tree = ast.parse(ast.unparse(_module(path)))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            node.body = body[1:] or [ast.Pass()]
    return ast.dump(tree)
