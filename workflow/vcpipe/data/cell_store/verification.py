"""Is every byte of a store as it was written?"""

import hashlib
from pathlib import Path

from vcpipe.errors import InputError, listed
from vcpipe.files import digest


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Of the manifest: what the cells are, not where they came from and in which order.
CONTENT = ("format", "num_cells", "runs", "block_size", "compression", "modalities", "labels")
CONTENT += ("num_groups", "files")


def digests_of(manifest: dict) -> dict[str, str]:
    """`data_digest`, of content alone, and `manifest_digest`, by which any change is noticed."""
    data = digest({key: manifest.get(key) for key in CONTENT})
    rest = {key: value for key, value in manifest.items() if key != "manifest_digest"}
    return {"data_digest": data, "manifest_digest": digest(rest | {"data_digest": data})}


def stored_files(manifest: dict) -> dict[str, dict]:
    """Bytes and sha256 of all files beside the manifest."""
    shards = [shard for its in manifest["modalities"].values() for shard in its["shards"]]
    return manifest["files"] | {shard["name"]: shard for shard in shards}


def check_sizes(path: Path, manifest: dict) -> None:
    """Refuse a store with a missing or truncated file; takes no reading."""
    for name, its in stored_files(manifest).items():
        file = path / name
        if not file.exists():
            raise InputError(f"{file} is missing; copy the whole store, or rerun prepare_cells.")
        size = file.stat().st_size
        if size != its["bytes"]:
            word = "truncated" if size < its["bytes"] else "too long"
            raise InputError(
                f"{file} is {word}: it has {size} bytes, expected {its['bytes']}. Copy the store "
                "again, or rerun prepare_cells."
            )


def verify_files(path: Path, manifest: dict) -> int:
    """Compare the sha256 of all files, and name those that differ; how many bytes were read."""
    files = stored_files(manifest)
    damaged = [name for name, its in files.items() if sha256_of(path / name) != its["sha256"]]
    if damaged:
        raise InputError(
            f"{path}: {listed(damaged)} are not as they were written (sha256). Copy the store "
            "again, or rerun prepare_cells."
        )
    return sum(its["bytes"] for its in files.values())
