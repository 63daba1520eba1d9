"""Running the application: uvicorn with limits on what a connection may hold."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

IDLE_SECONDS = 10.0
"""A connection that has said nothing whole for so long is closed."""
FLUSH_SECONDS = 30.0
"""What is left to be sent then may take so much longer; after that it is dropped."""
LINGER_SECONDS = 1.0
"""The same for one whose request was answered before all of it was read: too large, say."""
MOST_IDLE = 128
"""Connections without a request; one more, and the one that has been idle longest is closed."""


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP protocol, which by itself waits for ever for a first request.

    Open connections that ask nothing, or a byte now and then, or do not read what they asked for,
    must not keep others out.
    """

    idle: dict[PatientProtocol, asyncio.TimerHandle] = {}  # noqa: RUF012  (of all connections)

    def connection_made(self, transport: Any) -> None:
        """A connection was accepted."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Something was sent: a request is under way when its headers are whole."""
        super().data_received(data)
        if self._under_way():
            self._unwatch()
        elif self not in self.idle:
            self._watch()

    def pause_writing(self) -> None:
        """The other side does not read: it is no better than idle."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """The other side has read."""
        super().resume_writing()
        if self._under_way():
            self._unwatch()

    def on_response_complete(self) -> None:
        """A request was answered; the connection is idle again."""
        super().on_response_complete()
        if self.transport.is_closing() or self._under_way():
            return
        if self.cycle.more_body:
            # Not read any further: the other side has a moment to see the answer, then it ends.
            self.flow.pause_reading()
            self._watch(LINGER_SECONDS)
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._unwatch()
        super().connection_lost(exc)

    def _under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self, seconds: float | None = None) -> None:
        self._unwatch()
        wait = IDLE_SECONDS if seconds is None else seconds
        self.idle[self] = self.loop.call_later(wait, self._close)
        if len(self.idle) > MOST_IDLE:
            next(iter(self.idle))._close()

    def _unwatch(self) -> None:
        timer = self.idle.pop(self, None)
        if timer:
            timer.cancel()

    def _close(self) -> None:
        self._unwatch()
        self.transport.close()
        self.loop.call_later(FLUSH_SECONDS, self.transport.abort)


class Server(uvicorn.Server):
    """Tells jobs to end as soon as the server is told to, so that their event streams end too."""

    def __init__(self, app: FastAPI, proxies: Sequence[str] = ()) -> None:
        self._app = app
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
            timeout_keep_alive=int(IDLE_SECONDS),
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to stop."""
        self._app.state.jobs.cancel_all()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there (port 0: any that is free). Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=128)
    # Connections inherit it. asyncio sets it only where a socket names its protocol, which this
    # one does not; without it each answer waits 40 ms for the client to confirm its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(app: FastAPI, listener: socket.socket, proxies: Sequence[str] = ()) -> None:
    """Answer requests until the process is told to stop.

    X-Forwarded-Proto and X-Forwarded-For are believed from ``proxies``: addresses and networks.
    """
    Server(app, proxies).run(sockets=[listener])
