"""A stand-in for the hub on the loopback interface, with faults to order."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandIn:
    """What the stand-in serves and how it misbehaves."""

    repository: str
    files: dict[str, bytes]
    kind: str = "models"
    """Or "datasets"."""
    url: str = ""
    commit: str = COMMIT
    older: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The files of earlier commits."""
    large: int = 1000
    """Files of at least this many bytes are announced with a SHA-256, as LFS files are."""
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    """By file: how many bytes the next answers send before the connection breaks."""
    instead: dict[str, bytes] = field(default_factory=dict)
    """By file: what is sent in place of what was announced."""
    lost: set[str] = field(default_factory=set)
    """Files that are announced and answered with 404."""
    ranges: bool = True
    silent: bool = False
    """Accept connections, never answer."""
    status: int = 200
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answers before anything else: status and headers, one a request."""
    page: bytes | None = None
    """Answer everything with this web page, as a captive portal does."""
    cut_every: int = 0
    """Break each transfer after so many bytes."""
    reset: bool = False
    """Break with a reset, not by closing."""
    rate: int = 0
    """Bytes a second of a transfer; 0 for no limit."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths asked for, each with its Range header."""

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """A commit and its files; of "main" and other names the newest."""
        if revision in self.older:
            return revision, self.older[revision]
        return self.commit, self.files

    def downloads(self, name: str) -> list[str | None]:
        return [r for path, r in self.requests if path.startswith("/cdn/") and path.endswith(name)]


@contextmanager
def serve(stand_in: StandIn) -> Iterator[StandIn]:
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if self.command == "GET":
                stand_in.requests.append((path, self.headers.get("Range")))
            if stand_in.silent:
                done.wait(20)
                self.close_connection = True
                return
            repository = stand_in.repository
            known = f"/api/{stand_in.kind}/{repository}/revision/"
            resolved = f"/{repository}/resolve/"
            if stand_in.kind != "models":
                resolved = f"/{stand_in.kind}{resolved}"
            if stand_in.statuses:
                status, headers = stand_in.statuses.pop(0)
                self._answer(status, b"{}", headers)
            elif stand_in.page is not None:
                self._answer(200, stand_in.page, {"Content-Type": "text/html"})
            elif stand_in.status != 200:
                self._answer(stand_in.status, b"no")
            elif path in (known + r for r in ("main", stand_in.commit, *stand_in.older)):
                info = _info(stand_in, path.removeprefix(known))
                self._answer(200, json.dumps(info).encode())
            elif path.startswith(known):
                self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            elif path.startswith(resolved):
                revision, _, name = path.removeprefix(resolved).partition("/")
                commit, files = stand_in.at(revision)
                if name in stand_in.lost or name not in files:
                    self._answer(404, b"no such file")
                else:  # the real hub sends to a content network too
                    data = files[name]
                    digest = _digest(stand_in, data)
                    self.send_response(302)
                    self.send_header("Location", f"{stand_in.url}/cdn/{name}?{commit}")
                    self.send_header("X-Repo-Commit", commit)
                    self.send_header("X-Linked-Size", str(len(data)))
                    self.send_header("X-Linked-Etag", f'"{digest}"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
            elif path.startswith("/cdn/"):
                self._send_file(self.path.partition("?")[2], path.removeprefix("/cdn/"))
            else:
                self._answer(404, b"no such repository")

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _send_file(self, revision: str, name: str) -> None:
            commit, files = stand_in.at(revision)
            data = stand_in.instead.get(name, files[name])
            start, length = 0, len(data)
            asked = self.headers.get("Range")
            if asked and stand_in.ranges:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start = int(first)
                data = data[: int(last) + 1] if last else data
            if start >= len(data) > 0:
                self._answer(416, b"")
                return
            partly = start or len(data) < length
            self.send_response(206 if partly else 200)
            if partly:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{length}")
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{_digest(stand_in, files[name])}"')
            self.end_headers()
            if self.command == "HEAD":
                return
            cuts = stand_in.cut_after.get(name)
            most = cuts.pop(0) if cuts else stand_in.cut_every or len(data)
            block = max(1, stand_in.rate // 10) if stand_in.rate else len(data) or 1
            for at in range(start, min(len(data), start + most), block):
                if stand_in.silent:
                    done.wait(20)
                self.wfile.write(data[at : min(at + block, start + most)])
                if stand_in.rate:
                    done.wait(0.1)  # tests may have patched time.sleep
            if start + most < len(data):
                self.wfile.flush()
                if stand_in.reset:
                    linger = struct.pack("ii", 1, 0)
                    time.sleep(0.05)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stand_in
    finally:
        done.set()
        server.shutdown()
        server.server_close()
        thread.join()
        time.sleep(0)


def _digest(stand_in: StandIn, data: bytes) -> str:
    if len(data) >= stand_in.large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _info(stand_in: StandIn, revision: str) -> dict[str, Any]:
    commit, files = stand_in.at(revision)
    siblings = []
    for name, data in files.items():
        sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": sha1}
        if len(data) >= stand_in.large:
            sha256 = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
        siblings.append(entry)
    return {"id": stand_in.repository, "sha": commit, "siblings": siblings}
