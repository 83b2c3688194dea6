"""Write envs/*.yaml: each stage's packages and all that they need, pinned as in requirements.lock.

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
    *("anndata", "h5py", "numba", "numpy", "pandas", "pydantic", "pyyaml", "scipy", "xxhash"),
]
ENVS = {
    "data": READING,
    "graphs": [*READING, "torch", "torch-geometric"],
    "train": [*READING, "torch"],
    "evaluate": READING,
    "report": [*READING, "matplotlib"],
}


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


def env_text(packages: list[str]) -> str:
    pinned = pins()
    # On Linux torch also names the CUDA wheels of its default build; pip resolves those.
    names = sorted(name for name in needed(packages) if name in pinned)
    lines = ["channels: [conda-forge, nodefaults]", "dependencies:", "  - python =3.11", "  - pip"]
    return "\n".join([*lines, "  - pip:", *(f"      - {pinned[name]}" for name in names)]) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser(__doc__).parse_args(argv)
    for name, packages in ENVS.items():
        (PROJECT / "envs" / f"{name}.yaml").write_text(env_text(packages))
        print(f"envs/{name}.yaml")


if __name__ == "__main__":
    run(main)
