import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vcpipe.errors import InputError
from vcpipe.files import digest, fingerprint, writing

LIBRARY = str(Path(__file__).parents[1] / "workflow")


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    out = tmp_path / "made.txt"
    with writing(out) as partial:
        partial.write_text("half")
        assert not out.exists()
    assert out.read_text() == "half"
    assert list(tmp_path.iterdir()) == [out]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
    out = tmp_path / "made.txt"
    out.write_text("old")

    def fail():
        with writing(out) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_replaces_a_folder_as_a_whole(tmp_path):
    out = tmp_path / "made"
    for content in ("first", "second"):
        with writing(out) as partial:
            partial.mkdir()
            (partial / content).touch()
    assert [path.name for path in out.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_fingerprint_follows_content_and_not_time(tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(3_000_000))
    before = fingerprint(path)
    os.utime(path, (1, 1))
    assert fingerprint(path) == before
    with path.open("r+b") as handle:
        handle.seek(2_999_999)
        handle.write(b"x")
    assert fingerprint(path) != before


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_what_a_killed_process_left_is_removed_by_the_next_attempt(tmp_path):
    out = tmp_path / "made.txt"
    program = f"""
import os, signal
from pathlib import Path
from vcpipe.files import writing
with writing(Path({str(out)!r})) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": LIBRARY}, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert not out.exists()

    with writing(out) as partial:
        partial.write_text("whole")

    assert list(tmp_path.iterdir()) == [out]


def test_the_folder_that_a_killed_process_was_replacing_is_removed_by_the_next_attempt(tmp_path):
    out = tmp_path / "made"
    out.mkdir()
    program = f"""
import os, shutil, signal
from pathlib import Path
from vcpipe.files import writing
shutil.rmtree = lambda path: os.kill(os.getpid(), signal.SIGKILL)
with writing(Path({str(out)!r})) as partial:
    partial.mkdir()
"""
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": LIBRARY}, check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with writing(out) as partial:
        partial.mkdir()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("answer", "kept"), [(None, True), (PermissionError, True), (ProcessLookupError, False)]
)
def test_what_a_running_process_writes_is_left_alone_on_every_system(
    tmp_path, monkeypatch, answer, kept
):
    def kill(pid, number):
        assert (pid, number) == (2**22 + 1, 0)  # above Linux's pid_max, so /proc has no such
        if answer:
            raise answer

    monkeypatch.setattr("vcpipe.files.os.kill", kill)
    other = tmp_path / f".made.txt.partial-{socket.gethostname()}-{2**22 + 1}"
    other.touch()
    with writing(tmp_path / "made.txt") as partial:
        partial.touch()
    assert other.exists() == kept


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with (
        pytest.raises(InputError, match=r"It needs about .*are free in .*Make room"),
        writing(tmp_path / "made.bin", needed=free + 10**12),
    ):
        pytest.fail("the block must not begin")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_midway_leaves_nothing_and_the_error_says_what_was_needed(tmp_path):
    program = f"""
import resource
from vcpipe.files import writing
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with writing({str(tmp_path / "made.bin")!r}, needed=3_000_000) as partial:
    partial.write_bytes(bytes(3_000_000))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": LIBRARY},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert "made.bin cannot be written: File too large, after 100 kB. It needs about 3 MB" in last
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "made.bin"):
        (tmp_path / "absent").read_bytes()
