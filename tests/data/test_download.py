"""Downloads from a real server on this machine: whole, broken off, resumed, refused."""

import hashlib
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from scripts import fetch_dataset
from vcpipe.data.download import fetch
from vcpipe.errors import InputError

CONTENT = np.random.default_rng(0).bytes(300_000)
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file; `breaks` says after how many bytes each coming answer is cut off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.tag = '"one"'
        self.ranges = True
        self.breaks: list[int] = []
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/screen.h5ad"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        if self.path != "/screen.h5ad":
            self.send_error(404)
            return
        size = len(server.content)
        start = 0
        if server.ranges and self.headers["Range"] and self.headers["If-Range"] == server.tag:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.send_header("ETag", server.tag)
        self.end_headers()
        most = server.breaks.pop(0) if server.breaks else size
        self.wfile.write(server.content[start : start + most])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_the_file_and_leaves_nothing_else(server, tmp_path):
    assert fetch(server.url, tmp_path / "deep" / "cells.h5ad", HASH) == HASH
    assert (tmp_path / "deep" / "cells.h5ad").read_bytes() == CONTENT
    assert names(tmp_path / "deep") == ["cells.h5ad"]


def test_a_broken_connection_is_continued_at_the_same_byte(server, tmp_path):
    server.breaks = [150_000, 100_000]
    fetch(server.url, tmp_path / "cells.h5ad", HASH)
    assert server.asked == [None, "bytes=150000-", "bytes=250000-"]


def test_a_later_call_continues_what_an_earlier_one_left(server, tmp_path):
    server.breaks = [150_000, 0]
    with pytest.raises(InputError, match=r"closed early.*150000 bytes are kept, so run it again"):
        fetch(server.url, tmp_path / "cells.h5ad", HASH)
    assert not (tmp_path / "cells.h5ad").exists()

    fetch(server.url, tmp_path / "cells.h5ad", HASH)
    assert server.asked[-1] == "bytes=150000-"
    assert (tmp_path / "cells.h5ad").read_bytes() == CONTENT
    assert names(tmp_path) == ["cells.h5ad"]


def test_a_call_ended_before_the_renaming_asks_for_no_byte_twice(server, tmp_path):
    server.breaks = [150_000, 0]
    with pytest.raises(InputError):
        fetch(server.url, tmp_path / "cells.h5ad")
    (tmp_path / ".cells.h5ad.download").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "cells.h5ad", HASH)
    assert server.asked[-1] == "bytes=300000-"


def test_a_new_version_on_the_server_is_not_glued_to_the_old_one(server, tmp_path):
    server.breaks = [150_000, 0]
    with pytest.raises(InputError):
        fetch(server.url, tmp_path / "cells.h5ad")
    server.content, server.tag = CONTENT[::-1], '"two"'
    fetch(server.url, tmp_path / "cells.h5ad")
    assert (tmp_path / "cells.h5ad").read_bytes() == CONTENT[::-1]


def test_bytes_of_another_url_are_not_continued(server, tmp_path):
    server.breaks = [150_000, 0]
    with pytest.raises(InputError):
        fetch(server.url, tmp_path / "cells.h5ad")
    other = tmp_path / "other"
    other.write_bytes(b"another file")
    fetch(other.as_uri(), tmp_path / "cells.h5ad")
    assert (tmp_path / "cells.h5ad").read_bytes() == b"another file"


def test_a_server_without_ranges_is_asked_again_from_the_beginning(server, tmp_path):
    server.ranges = False
    server.breaks = [150_000]
    fetch(server.url, tmp_path / "cells.h5ad", HASH)
    assert (tmp_path / "cells.h5ad").read_bytes() == CONTENT


def test_a_wrong_hash_names_both_and_removes_the_file(server, tmp_path):
    expected = "0" * 64
    with pytest.raises(InputError, match=f"has SHA-256 {HASH}; expected {expected}"):
        fetch(server.url, tmp_path / "cells.h5ad", expected)
    assert names(tmp_path) == []


def test_a_failed_download_leaves_the_older_file(server, tmp_path):
    (tmp_path / "cells.h5ad").write_text("older")
    with pytest.raises(InputError):
        fetch(server.url, tmp_path / "cells.h5ad", "0" * 64)
    assert (tmp_path / "cells.h5ad").read_text() == "older"


def test_a_missing_file_is_said_with_the_url(server, tmp_path):
    with pytest.raises(InputError, match=r"/nothing.h5ad answered 404 .*Check the url"):
        fetch(server.url.replace("screen", "nothing"), tmp_path / "cells.h5ad")


def test_an_unreachable_server_is_said_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/screen.h5ad"
        with pytest.raises(InputError, match=r"could not be downloaded: .*refused"):
            fetch(url, tmp_path / "cells.h5ad")


def test_a_missing_local_file_is_said_with_its_path(tmp_path):
    with pytest.raises(InputError, match=r"absent\.h5ad could not be downloaded"):
        fetch((tmp_path / "absent.h5ad").as_uri(), tmp_path / "cells.h5ad")


def test_the_script_copies_a_local_file_and_prints_its_hash(tmp_path, capsys):
    source = tmp_path / "source.h5ad"
    source.write_bytes(CONTENT)
    out = tmp_path / "cells.h5ad"
    fetch_dataset.main(["--out", str(out), f"url={source.as_uri()}"])
    assert out.read_bytes() == CONTENT
    assert HASH in capsys.readouterr().out
