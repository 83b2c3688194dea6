"""Who may import whom: the table of the house, enforced."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "workflow" / "vcpipe"
GROUND = {"errors", "files", "memory", "provenance"}
ALLOWED = {
    "config": GROUND,
    "data": GROUND | {"config"},
    "models": GROUND | {"config"},
    "objectives": GROUND | {"config", "models"},
    "training": GROUND | {"config", "data", "models", "objectives"},
    "evaluation": GROUND | {"config", "data"},
    "plots": GROUND | {"config", "evaluation"},
}
HEAVY = {"torch", "torch_geometric", "scanpy"}


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(layer: str) -> list[Path]:
    return sorted((LIBRARY / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_the_layers_below_it(layer):
    assert files(layer)
    for path in files(layer):
        layers = {name.split(".")[1] for name in imported(path) if name.startswith("vcpipe.")} - {
            "__version__",
            layer,
        }
        assert layers <= ALLOWED[layer], f"{path.relative_to(LIBRARY)} imports {layers}"


@pytest.mark.parametrize("layer", ["config", "data", "evaluation", "plots"])
def test_torch_stays_in_models_objectives_and_training(layer):
    for path in files(layer):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & HEAVY, f"{path.relative_to(LIBRARY)} imports {roots & HEAVY}"


def test_models_and_objectives_know_no_files():
    for layer in ("models", "objectives"):
        for path in files(layer):
            roots = {name.split(".")[0] for name in imported(path)}
            assert not roots & {"anndata", "h5py", "pathlib", "pandas"}, path


def test_the_library_never_hears_of_snakemake():
    for path in LIBRARY.rglob("*.py"):
        assert "snakemake" not in {name.split(".")[0] for name in imported(path)}, path


def test_scripts_never_import_each_other():
    for path in (LIBRARY.parents[1] / "scripts").glob("*.py"):
        assert not any(name.startswith("scripts") for name in imported(path)), path


def test_rules_import_only_config_and_provenance():
    for path in (LIBRARY.parent / "rules").glob("*.smk"):
        lines = [line for line in path.read_text().splitlines() if line.startswith("from vcpipe.")]
        for line in lines:
            layer = line.split()[1].split(".")[1]
            assert layer in {"config", *GROUND}, f"{path.name}: {line}"
