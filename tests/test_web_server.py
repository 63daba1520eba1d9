"""The server under load from connections that mean no good."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fakes import ColourModel
from live import listening
from PIL import Image

import wordsight
from wordsight.web import guard, server
from wordsight.web.app import create_app


@pytest.fixture
def library(tmp_path: Path, photos: Callable[..., Path], model: ColourModel) -> wordsight.Library:
    made = wordsight.create(tmp_path / "lib", model)  # type: ignore[arg-type]
    made.index(photos(red=3))
    return made


@pytest.fixture
def url(library: wordsight.Library) -> Iterator[str]:
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


def health(url: str) -> int:
    with urllib.request.urlopen(f"{url}/api/v1/health", timeout=60) as answer:
        return int(answer.status)


@pytest.fixture
def files() -> Iterator[int]:
    """As many open files as this process may have; the number."""
    resource = pytest.importorskip("resource", reason="no limits on open files here")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield 2**20 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_idle_connections_keep_nobody_out(url: str, files: int) -> None:
    # Both ends are in this process; the server keeps MOST_IDLE of its own open.
    number = min(10_000, files - server.MOST_IDLE - 500)
    if number < 10_000:
        warnings.warn(f"only {number} connections: {files} files may be open", stacklevel=1)
    idle = []
    for n in range(number):
        idle.append(connect(url))
        if n % 5 == 0:  # some send a part of a request
            idle[-1].sendall(b"GET / HTTP/1.1\r\n")
        if n % 2000 == 0:
            assert health(url) == 200
    assert health(url) == 200
    # All but the last few were closed by the server to make room.
    early = idle[: -2 * server.MOST_IDLE]
    assert all(closed_by_server(connection) for connection in early)
    assert len(server.PatientProtocol.idle) <= server.MOST_IDLE
    for connection in idle:
        connection.close()


def test_two_gigabytes_are_not_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0
    plain = server.PatientProtocol.data_received

    def counted(self: Any, data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        plain(self, data)

    monkeypatch.setattr(server.PatientProtocol, "data_received", counted)
    heads = {
        "search": b"content-type: image/png\r\ntransfer-encoding: chunked",
        "classify": b"content-type: image/png\r\ncontent-length: 2147483648",
        "search/batch": b"content-type: application/json\r\ntransfer-encoding: chunked",
    }
    part = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    for path, head in heads.items():
        taken, sent, answer = 0, 0, b""
        connection = connect(url)
        connection.sendall(b"POST /api/v1/%s HTTP/1.1\r\nhost: localhost\r\n" % path.encode())
        connection.sendall(head + b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < 2**31 and not select.select([connection], [], [], 0)[0]:
                sent += connection.send(part[sent % len(part) :])
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(4096):
                answer += more
        connection.close()
        assert answer.startswith(b"HTTP/1.1 413"), path
        assert b"application/problem+json" in answer
        # Beside the limit there is what the system holds on the way.
        assert sent < guard.MAX_BODY + 2**26
        assert taken < guard.MAX_BODY + 2**21
    assert health(url) == 200


def test_a_body_that_trickles_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    for path in (b"search", b"search/batch"):
        connection = connect(url)
        connection.sendall(b"POST /api/v1/%s HTTP/1.1\r\nhost: localhost\r\n" % path)
        connection.sendall(b"content-length: 100\r\ncontent-type: application/json\r\n\r\n[")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert closed_by_server(connection)
        connection.close()


def test_who_does_not_read_holds_nothing(
    library: wordsight.Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(server, "FLUSH_SECONDS", 0.3)
    (tmp_path / "large").mkdir()
    noise = Image.effect_noise((1600, 1600), 200).convert("RGB")
    noise.save(tmp_path / "large" / "noise.png")
    library.index(tmp_path / "large")
    (entry,) = [e for e in library.store.entries() if e.path.endswith("noise.png")]
    lost = threading.Event()
    plain = server.PatientProtocol.connection_lost

    def ended(self: Any, error: Exception | None) -> None:
        plain(self, error)
        lost.set()

    monkeypatch.setattr(server.PatientProtocol, "connection_lost", ended)
    ask = f"GET /api/v1/images/{entry.id} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
    with listening(create_app(library)) as url:
        parts = urlsplit(url)
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect((parts.hostname or "", parts.port or 0))
        connection.sendall(ask * 20)  # one after the other on one connection
        assert lost.wait(60)
        got = 0
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(2**20):
                got += len(more)
        connection.close()
        with urllib.request.urlopen(f"{url}/api/v1/images/{entry.id}") as answer:
            assert got < 20 * len(answer.read())


def test_nobody_works_for_who_has_gone(library: wordsight.Library) -> None:
    """Their searches leave the queue; those who stay are answered."""
    busy, go = threading.Event(), threading.Event()
    asked: list[str] = []
    plain = library.search

    def held(queries: Any, *args: Any, **options: Any) -> Any:
        asked.extend(str(query) for query in queries)
        busy.set()
        assert go.wait(60)
        return plain(queries, *args, **options)

    app = create_app(library)
    with listening(app) as url:
        library.search = held  # type: ignore[method-assign]
        first = connect(url)
        first.sendall(b"GET /api/v1/search?q=first HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert busy.wait(60)
        gone = [connect(url) for _ in range(20)]
        for connection in gone:
            connection.sendall(b"GET /api/v1/search?q=gone HTTP/1.1\r\nhost: localhost\r\n\r\n")
        stays = connect(url)
        stays.sendall(b"GET /api/v1/search?q=stays HTTP/1.1\r\nhost: localhost\r\n\r\n")
        wait_for_queue(url, 21)
        for connection in gone:
            connection.close()
        assert health(url) == 200  # which is read after what they left
        go.set()
        for connection in (first, stays):
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.close()
    assert asked == ["first", "stays"]


def wait_for_queue(url: str, number: int) -> None:
    """Until so many searches wait."""
    for _ in range(600):
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            if f"wordsight_queue {number}.0" in answer.read().decode():
                return
        time.sleep(0.1)
    raise AssertionError("they do not come")


def test_beyond_what_is_done_at_once_one_is_told_to_come_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_BUSY", 0)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/api/v1/health")
    assert refused.value.code == 503
    assert int(refused.value.headers["retry-after"]) > 0
    assert refused.value.headers["content-type"] == "application/problem+json"
    refused.value.close()


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


def test_answers_do_not_wait_for_the_client_to_confirm_their_head() -> None:
    with (
        server.listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
