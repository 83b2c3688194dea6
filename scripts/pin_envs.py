"""Write envs/*.yaml: each stage's packages and all that they need, pinned as in the lock files.

    python -m scripts.pin_envs

The conda part is Python and pip; the rest comes as wheels, which bring their own CUDA libraries.
"""

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vcpipe.config.arguments import parser, run

PROJECT = Path(__file__).parents[1]
READING = [
    *("anndata", "h5py", "numba", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml"),
    *("safetensors", "scikit-misc", "scipy", "xxhash"),
]
ENVS = {
    "data": READING,
    "graphs": [*READING, "torch", "torch-geometric"],
    "train": [*READING, "rich", "scdataset", "torch"],
    "evaluate": READING,
    "report": [*READING, "matplotlib", "umap-learn"],
}
# Envs that cannot be one with ours, as tests/upstream/<name>.txt pins them; make env NAME=<name>.
OWN = ("census", "cell_eval", "lamindb", "scgpt")
# Programs that such an env calls, from conda; without conda they must be on PATH.
PROGRAMS = {"cell_eval": ["zstd =1.5"]}


def pins() -> dict[str, str]:
    lines = (PROJECT / "requirements.lock").read_text().split()
    return {canonicalize_name(line.partition("==")[0]): line for line in lines}


def needed(packages: list[str]) -> set[str]:
    """The packages and what they require on this platform, directly or through others."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in packages]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    return found


def env_texts() -> dict[str, str]:
    """The text of each env's file, by name."""
    pinned = pins()  # without CUDA's wheels, which torch names on Linux: pip resolves those
    lines = {
        name: [pinned[one] for one in sorted(needed(packages)) if one in pinned]
        for name, packages in ENVS.items()
    }
    lines |= {name: (PROJECT / f"tests/upstream/{name}.txt").read_text().split() for name in OWN}
    return {name: env_text(its, PROGRAMS.get(name, [])) for name, its in lines.items()}


def env_text(pinned: list[str], programs: list[str]) -> str:
    lines = ["channels: [conda-forge, nodefaults]", "dependencies:"]
    lines += [f"  - {name}" for name in ("python =3.11", *programs, "pip", "pip:")]
    return "\n".join([*lines, *(f"      - {line}" for line in pinned)]) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser(__doc__).parse_args(argv)
    for name, text in env_texts().items():
        (PROJECT / "envs" / f"{name}.yaml").write_text(text)
        print(f"envs/{name}.yaml")


if __name__ == "__main__":
    run(main)
