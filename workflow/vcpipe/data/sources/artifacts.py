"""An h5ad that LaminDB tracks, copied with what says which one it is.

Runs in the env lamindb. A local instance is opened by its folder, whoever made it, and is not
written to.
"""

import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from vcpipe.config.atlases import Artifact
from vcpipe.errors import InputError, listed
from vcpipe.files import writing

UID = re.compile(r"[0-9A-Za-z]{16}([0-9A-Za-z]{4})?")  # 16 of an artifact, 4 more of a version


def fetch(wanted: Artifact, out: Path) -> dict:
    """Copy the artifact's file to `out`; return its key, version, hash and place."""
    with _opened(wanted.instance) as (slug, artifacts):
        found = _chosen(wanted, artifacts)
        if found.suffix != ".h5ad":
            raise InputError(
                f"{found.key} ({found.uid}) is a {found.suffix or 'file without suffix'}; expected "
                "an h5ad. Write it as one, or choose another artifact."
            )
        place = found.path
        try:
            cached = Path(found.cache(is_run_input=False))
            with writing(out, cached.stat().st_size) as partial:
                shutil.copyfile(cached, partial)
        except OSError as error:
            raise InputError(
                f"{found.key} ({found.uid}) cannot be read at {place}: {error}. Check the storage "
                "and the network, then run it again."
            ) from error
        return {
            "instance": slug,
            "key": found.key,
            "uid": found.uid,
            "version": found.version,
            "is_latest": found.is_latest,
            "hash": found.hash,
            "size": found.size,
            "path": str(place),
        }


@contextmanager
def _opened(instance: str) -> Iterator[tuple[str, object]]:
    """The instance's name and its registry of artifacts, for reading only."""
    if importlib.util.find_spec("lamindb") is None:
        raise InputError(
            f"lamindb is not installed in {sys.prefix}; make env NAME=lamindb installs it in "
            ".venvs/lamindb, whose Python runs fetch_artifact."
        )
    folder = Path(instance)
    with tempfile.TemporaryDirectory() as settings:
        slug = _described(folder, settings) if folder.is_dir() else instance
        if not re.fullmatch(r"[^/]+/[^/]+", slug):
            raise InputError(
                f"instance is {instance!r}; expected account/instance, or the folder of a local "
                "instance, and there is no such folder."
            )
        import lamindb

        try:
            artifacts = lamindb.DB(slug).Artifact
            artifacts.filter().exists()
        except (Exception, SystemExit) as error:
            # Of the hub, the database and the network, each with errors of its own.
            raise InputError(
                f"The LaminDB instance {slug} cannot be opened: {error or type(error).__name__}. "
                "Check the name and the network; where it is not public, log in first: "
                ".venvs/lamindb/bin/lamin login."
            ) from error
        yield slug, artifacts


def _described(folder: Path, settings: str) -> str:
    """Describe a local instance in settings of its own, as lamin init has in the home folder."""
    stated = folder / ".lamindb" / "storage_uid.txt"
    lines = stated.read_text().splitlines() if stated.exists() else []
    about = dict(line.split("=", 1) for line in lines if "=" in line)
    if (
        not {"instance_slug", "instance_id"} <= set(about)
        or not stated.with_name("lamin.db").exists()
    ):
        raise InputError(
            f"{folder} is no LaminDB instance; expected {stated} and lamin.db beside it, as "
            f"lamin init --storage {folder} makes them."
        )
    # Read when lamindb_setup is imported.
    os.environ["LAMIN_SETTINGS_DIR"] = settings
    from lamindb_setup.core._settings_instance import InstanceSettings
    from lamindb_setup.core._settings_save import save_instance_settings
    from lamindb_setup.core._settings_storage import StorageSettings

    owner, name = about["instance_slug"].split("/")
    storage = StorageSettings(root=str(folder.resolve()))
    made = InstanceSettings(UUID(about["instance_id"]), owner, name, storage=storage)
    save_instance_settings(made, made._get_settings_file())
    return made.slug


def _chosen(wanted: Artifact, artifacts):
    """The artifact with the key or the uid, in the wanted version or the latest."""
    found = list(artifacts.filter(key=wanted.key))
    if not found and UID.fullmatch(wanted.key):
        found = list(artifacts.filter(uid__startswith=wanted.key))
    if not found:
        keys = sorted({each.key for each in artifacts.filter(suffix=".h5ad")[:1000] if each.key})
        raise InputError(
            f"{wanted.instance} has no artifact with key or uid {wanted.key!r}; "
            f"its h5ad files are {listed(keys) or 'none'}."
        )
    versions = sorted(each.version for each in found)
    if wanted.version is not None:
        found = [each for each in found if wanted.version in (each.version, each.uid)]
    elif len(found) > 1:
        found = [each for each in found if each.is_latest]
    if len(found) != 1:
        raise InputError(
            f"{wanted.key} of {wanted.instance} has {len(found)} artifacts in version "
            f"{wanted.version or 'latest'}; expected one. Its versions are {listed(versions)}; "
            "set version to one of them, or key to a uid."
        )
    return found[0]
