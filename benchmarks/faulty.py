"""A proxy that makes a storage over HTTP unreliable, as real ones are on a bad day."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SHARE = 0.05
"""Of the requests, that meet each of the faults."""
DELAY = 0.2  # seconds
_ONE_HOP = {"connection", "keep-alive", "transfer-encoding"}  # headers that are not passed on


class Faulty(ThreadingHTTPServer):
    """Passes requests on to ``upstream``; ``met`` counts them, and the faults that they met.

    One in twenty is answered with 503 without being passed on, one in twenty is delayed, and of one
    in twenty the answer is cut: half of a body arrives, or, where something was written, nothing.
    """

    daemon_threads = True

    def __init__(self, upstream: str, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.met: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its own address."""
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self) -> str:
        """What the next request meets, or an empty string."""
        with self._lock:
            kinds = ("503", "delay", "cut", "")
            (kind,) = self._random.choices(kinds, (SHARE, SHARE, SHARE, 1 - 3 * SHARE))
            self.met.update(filter(None, (kind, "requests")))
        return kind

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that went away are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault()
        if fault == "503":
            self._answer(503, [], b"")
            return
        if fault == "delay":
            time.sleep(DELAY)
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        with contextlib.closing(upstream):
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _ONE_HOP}
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            content = answer.read()
        wrote = self.command in ("PUT", "POST", "DELETE")
        if fault == "cut" and (wrote or content):
            self.close_connection = True
            if wrote:
                return
        shown = content[: len(content) // 2] if fault == "cut" else content
        self._answer(answer.status, answer.getheaders(), shown, len(content))

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, length: int = 0
    ) -> None:
        self.send_response_only(status)
        own = {*_ONE_HOP, "content-length"}
        for name, value in headers:
            if name.lower() not in own:
                self.send_header(name, value)
        if self.command == "HEAD":
            length = int(dict(headers).get("Content-Length") or 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def faulty(upstream: str) -> Iterator[Faulty]:
    """The proxy, which runs within this."""
    with Faulty(upstream) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
