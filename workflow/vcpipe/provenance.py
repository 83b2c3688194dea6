"""What made a result: a digest of the code that a program can reach, and the project's version."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vcpipe import __version__

PROJECT = Path(__file__).parents[2]
ROOTS = {"vcpipe": PROJECT / "workflow", "scripts": PROJECT}


def code(rule: str) -> str:
    """Hash a rule's script and our modules that it imports, without comments and docstrings.

    Snakemake does not see an edited library module behind a `shell:` command; as a parameter of
    the rule this digest makes it rerun, and a changed comment does not. Settings are left out:
    their resolved values are parameters by themselves, and a reworded explanation changes none.
    """
    settings = ROOTS["vcpipe"] / "vcpipe" / "config"
    paths = sorted(reachable(PROJECT / "scripts" / f"{rule}.py"))
    return _digest(path for path in paths if not path.is_relative_to(settings))[:16]


def code_version() -> str:
    """Version and digest of the whole library, stored in checkpoints."""
    paths = sorted((PROJECT / "workflow" / "vcpipe").rglob("*.py"))
    return f"{__version__}+{_digest(paths)[:12]}"


def reachable(start: Path) -> set[Path]:
    """Files of ours that `start` imports, directly or through others, itself included."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += _module(path).imports
    return seen


class Module(NamedTuple):
    imports: list[Path]  # files of ours
    digest: str


def _digest(paths: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for path in paths:
        content.update(f"{path.relative_to(PROJECT)}\n{_module(path).digest}\n".encode())
    return content.hexdigest()


def _module(path: Path) -> Module:
    return _parsed(path, path.stat().st_mtime_ns)


# Snakemake asks for every rule in every process that it starts, and most rules share most files.
@cache
def _parsed(path: Path, modified: int) -> Module:
    words: list[str] = []
    names: list[str] = []
    _read(ast.parse(path.read_text(), filename=str(path)), words, names)
    roots = {name: ROOTS.get(name.split(".")[0]) for name in names}
    imports = [file for name, root in roots.items() if root for file in _files_of(root, name)]
    return Module(imports, hashlib.sha256("\n".join(words).encode()).hexdigest())


def _read(node: object, words: list[str], names: list[str]) -> None:
    """Add what a syntax tree computes, without docstrings and line numbers, and what it imports."""
    if isinstance(node, list):
        words.append(f"{len(node)} items")
        for item in node:
            _read(item, words, names)
    elif isinstance(node, ast.AST):
        words.append(type(node).__name__)
        for field in node._fields:
            value = getattr(node, field)
            _read(_without_docstring(node) if field == "body" else value, words, names)
        names += _names(node)
    else:
        words.append(repr(node))


def _without_docstring(node: ast.AST) -> object:
    body = node.body
    if (
        isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and body
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    ):
        return body[1:] or [ast.Pass()]
    return body


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        # `from vcpipe.data import splits` may name a module or a thing inside one.
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


@cache
def _files_of(root: Path, name: str) -> list[Path]:
    """A module's file and its packages' __init__ files, of those that are there."""
    parts = name.split(".")
    packages = [root.joinpath(*parts[:size], "__init__.py") for size in range(1, len(parts) + 1)]
    candidates = [*packages, root.joinpath(*parts).with_suffix(".py")]
    return [path for path in candidates if path.is_file()]
