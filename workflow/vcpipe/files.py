"""Files that are whole or absent: written under a temporary name, then renamed."""

import errno
import glob
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vcpipe.errors import InputError


def existing(path: Path, what: str) -> Path:
    """Return the path, or say which file is missing and what it should have been."""
    if not Path(path).exists():
        raise InputError(f"{path} does not exist; expected {what}.")
    return Path(path)


def matching(pattern: str | Path) -> list[Path]:
    """The files and folders that a path with wildcards means, by name; without them, the path."""
    pattern = str(pattern)
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [Path(pattern)]
    root = Path(Path(pattern).anchor or ".")
    found = sorted(root.glob(str(Path(pattern).relative_to(root))))
    # What starts with a dot is half-written, or macOS's.
    return [path for path in found if not path.name.startswith(".")]


@contextmanager
def writing(path: Path, needed: int | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed to it at the end; on an error it is removed.

    The block may make a file or a folder. What stood there before stays until the new one is whole.
    `needed` is its size in bytes, where that is known: a disk that cannot hold it is refused first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{socket.gethostname()}-{os.getpid()}")
    _remove_left_behind(path)
    if needed and shutil.disk_usage(path.parent).free < needed:
        raise InputError(_no_space(path, "the disk is too small", needed))
    try:
        yield partial
        if partial.is_file():
            with partial.open("rb") as handle:
                os.fsync(handle.fileno())
        if partial.is_dir() and path.is_dir():
            old = path.with_name(f".{path.name}.old-{socket.gethostname()}-{os.getpid()}")
            path.rename(old)
            partial.rename(path)
            shutil.rmtree(old)
        else:
            partial.replace(path)
    except Exception as error:
        reason = _why_full(error)
        if reason is None:
            raise
        reason += f", after {_size(_bytes_in(partial))}"
        remove(partial)
        raise InputError(_no_space(path, reason, needed)) from error
    finally:
        remove(partial)


def _why_full(error: BaseException | None) -> str | None:
    """What the system says where a disk, a quota or a limit is full; HDF5 hides it in its words."""
    while error is not None:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if getattr(error, "errno", None) == number or f"errno = {number}," in str(error):
                return os.strerror(number)
        error = error.__context__
    return None


def _no_space(path: Path, reason: str, needed: int | None) -> str:
    size = f"It needs about {_size(needed)}; " if needed else ""
    free = _size(shutil.disk_usage(path.parent).free)
    return (
        f"{path} cannot be written: {reason}. {size}{free} are free in {path.parent.resolve()}. "
        "Make room, or let results/ be a link to a larger disk. Nothing half-written is left."
    )


def _size(number: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.3g} {unit}" if number < 1000 else f"{number:,.0f} {unit}"
        number /= 1000


def _bytes_in(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def let_go(handle: int) -> None:
    """Put what was written to an open file on disk, and let its memory be used again.

    Left to itself the system keeps a file of many gigabytes in memory, in place of all else that
    is there, and takes longer: each page is new to it.
    """
    os.fsync(handle)
    # macOS has no such advice.
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def _remove_left_behind(path: Path) -> None:
    """Remove what a killed process of this machine has left of an earlier attempt."""
    for what in ("partial", "old"):
        start = f".{path.name}.{what}-{socket.gethostname()}-"
        for other in path.parent.glob(f"{glob.escape(start)}*"):
            pid = other.name.removeprefix(start)
            if pid.isdigit() and not _is_alive(int(pid)):
                remove(other)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # no signal, only the question whether one could be sent
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content) -> None:
    with writing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_json(path: Path, what: str):
    try:
        return json.loads(existing(path, what).read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON ({error}); expected {what}.") from error


def digest(content) -> str:
    """Hash anything that JSON can hold; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(path: Path, num_blocks: int = 16, block: int = 1 << 16) -> str:
    """Hash a file's size and evenly spaced blocks: cheap on 15 GB, and the same after a touch."""
    path = Path(path)
    if not path.exists():
        return "absent"
    size = path.stat().st_size
    content = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        for start in sorted({(size - block) * i // (num_blocks - 1) for i in range(num_blocks)}):
            handle.seek(max(start, 0))
            content.update(handle.read(block))
    return content.hexdigest()[:16]
