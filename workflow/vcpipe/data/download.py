"""Download a file whole or not at all; what an interruption left is kept and continued."""

import hashlib
import json
import os
import shutil
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from vcpipe.errors import InputError
from vcpipe.files import write_json

SILENCE = 60  # seconds without a byte after which a connection counts as broken


def fetch(url: str, out: Path, sha256: str | None = None) -> str:
    """Download `url` to `out`, compare its SHA-256 with the expected one, and return it.

    The bytes gather in `.<name>.download` beside `out`. A later call goes on where they end, if the
    server still has the same version of the file.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.download")
    version = out.with_name(f".{out.name}.version.json")
    _gather(url, partial, version)
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    version.unlink(missing_ok=True)
    if sha256 is not None and found != sha256:
        partial.unlink()
        raise InputError(
            f"{url} has SHA-256 {found}; expected {sha256}. The file was removed. Correct sha256 "
            "if the publisher has a new version; otherwise download again."
        )
    partial.replace(out)
    return found


def _gather(url: str, partial: Path, version: Path) -> None:
    """Ask for what is missing until nothing is, as long as each answer brings something."""
    while True:
        before = _size(partial)
        try:
            if _receive(url, partial, version):
                return
            reason = "the connection was closed early"
        except HTTPError as error:
            error.close()
            raise InputError(
                f"{url} answered {error.code} ({error.reason}); expected a file. Check the url."
            ) from error
        except URLError as error:
            reason = error.reason
        except (OSError, HTTPException) as error:
            reason = repr(error)
        if _size(partial) <= before:
            raise InputError(
                f"{url} could not be downloaded: {reason}. Check the url and the network; "
                f"{_size(partial)} bytes are kept, so run it again to go on."
            )


def _receive(url: str, partial: Path, version: Path) -> bool:
    """Append one answer's bytes to what is there; True when the file is complete."""
    kept = _kept_version(url, version)
    start = _size(partial) if kept else 0
    headers = {"User-Agent": "vcpipe"}
    if start:
        # If-Range: another version of the file is sent from its beginning, not from the middle.
        headers |= {"Range": f"bytes={start}-", "If-Range": kept}
    try:
        answer = urlopen(Request(url, headers=headers), timeout=SILENCE)
    except HTTPError as error:
        # Nothing lies behind `start`: the last call ended between the last byte and the renaming.
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{start}":
            error.close()
            return True
        raise
    with answer:
        continued = answer.status == 206
        if continued and not answer.headers["Content-Range"].startswith(f"bytes {start}-"):
            raise InputError(
                f"{url} sent {answer.headers['Content-Range']}; expected bytes from {start}. "
                f"Remove {partial} to start over."
            )
        if not continued:
            start = 0
            write_json(version, {"url": url, "version": _version(answer.headers)})
        with partial.open("ab" if continued else "wb") as handle:
            shutil.copyfileobj(answer, handle, 1 << 20)
        length = answer.headers["Content-Length"]
    return length is None or _size(partial) == start + int(length)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _kept_version(url: str, version: Path) -> str | None:
    """What the server called the file whose first bytes are there, if that is known."""
    if not version.exists():
        return None
    known = json.loads(version.read_text())
    return known["version"] if known["url"] == url else None


def _version(headers: HTTPMessage) -> str | None:
    tag = headers["ETag"]
    # RFC 9110, 13.1.5: a weak tag must not stand in If-Range.
    return tag if tag and not tag.startswith("W/") else headers["Last-Modified"]
