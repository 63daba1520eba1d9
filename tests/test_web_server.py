"""The server under load from connections that mean no good."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fakes import ColourModel
from live import listening

import wordsight
from wordsight.web import server
from wordsight.web.app import create_app


@pytest.fixture
def url(
    tmp_path: Path,
    photos: Callable[..., Path],
    model: ColourModel,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    monkeypatch.setattr(server, "MOST_IDLE", 32)
    library = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    library.index(photos(red=3))
    with listening(create_app(library)) as address:
        yield address


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0))
    connection.settimeout(60)
    return connection


def closed_by_server(connection: socket.socket) -> bool:
    """Read what is left; whether the server has ended it (the other way: a time-out's error)."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def test_idle_connections_keep_nobody_out(url: str) -> None:
    idle = [connect(url) for _ in range(400)]
    # Some send a byte of a request now and then.
    slow = [connect(url) for _ in range(100)]
    for connection in slow:
        connection.sendall(b"GET / HTTP/1.1\r\n")
    with urllib.request.urlopen(f"{url}/api/v1/health") as answer:
        assert answer.status == 200
    # All but the last few were closed by the server to make room.
    assert all(closed_by_server(connection) for connection in [*idle, *slow[:60]])
    for connection in [*idle, *slow]:
        connection.close()


def test_who_asks_nothing_is_cut_off(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.2)
    silent, slow, after = connect(url), connect(url), connect(url)
    slow.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: local")
    after.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for connection in (silent, slow, after):
        assert closed_by_server(connection)
        connection.close()


def test_many_requests_on_one_connection(url: str) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    for _ in range(3):
        connection.request("GET", "/api/v1/health")
        kept = connection.sock
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        assert connection.sock is kept
    connection.close()


@pytest.mark.skipif(os.name == "nt", reason="signals are another matter there")
def test_the_command_serves_indexes_and_stops_cleanly(tmp_path: Path, photos: Any) -> None:
    library = wordsight.create(tmp_path / "lib", "starter")
    library.index(photos(red=3))
    folder = photos("many", blue=300)
    command = [sys.executable, "-m", "wordsight", "serve", "--library", str(library.path)]
    command += ["--port", "0", "--allow-index", str(folder), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = b""
        while not told.rstrip().endswith(b"}"):
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            told += line
        api = json.loads(told)["api"]
        with urllib.request.urlopen(f"{api}/index/folders") as answer:
            (allowed,) = json.load(answer)["folders"]
        body = json.dumps({"folder": allowed["id"], "crops": "tiles"}).encode()
        start = urllib.request.Request(
            f"{api}/index/jobs", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(start) as answer:
            job = json.load(answer)["id"]
        # Somebody follows the job; the server does not wait for them.
        with urllib.request.urlopen(f"{api}/index/jobs/{job}/events") as events:
            assert events.readline().startswith(b"data: ")
            process.send_signal(signal.SIGINT)
            events.read()  # to its proper end
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 130  # as Ctrl-C has it
    assert b"Traceback" not in errors
    assert not out.strip()
    assert len(wordsight.open(library.path)) >= 3
